//! The durable sink: events in a SQLite database.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alldata_peer_guest::same_event::same_event;

use super::comparison::Comparison;
use crate::error::Error;
use crate::group_commit::{GroupCommit, QueueLimits, Record};
use crate::sink::{PutError, PutSink};
use crate::store::{StoreReader, StoreWriter, Written};

/// A write-once store in a SQLite file; see [`store`](crate::store).
///
/// A put is acknowledged once its transaction is on the disk. Those that wait share one. Dropping
/// the sink blocks until what is queued is written and the file is closed.
#[derive(Debug)]
pub struct SqliteSink {
    path: PathBuf,
    commits: GroupCommit<StoreWriter>,
    comparison: Comparison,
}

impl SqliteSink {
    /// Opens the store at `path`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// When the file can't be opened, is no store of a version that is known here, or the thread
    /// can't be started.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_with_queue(path, QueueLimits::default())
    }

    /// The same with other limits of what may wait for a write.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_with_queue(path: &Path, limits: QueueLimits) -> Result<Self, Error> {
        let writer = StoreWriter::open(path)?;
        let commits = GroupCommit::start("sqlite-writer", limits, writer);
        let commits = commits.map_err(|source| Error::Thread {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            commits,
            comparison: Comparison::default(),
        })
    }

    /// Whether an event too large to be copied by the writer is the one that its key holds.
    async fn is_held(&self, sent: Record) -> Result<bool, PutError> {
        let Record { key, event } = sent;
        let path = self.path.clone();
        let read_held = move || {
            let held = StoreReader::open(&path).and_then(|store| store.get(&key));
            match held {
                Ok(Some(held)) => Ok(Arc::from(held)),
                Ok(None) => Err(PutError::Failed(format!("the key {key:?} is gone"))),
                Err(error) => Err(PutError::Failed(error.to_string())),
            }
        };
        self.comparison.is_same(event, read_held).await
    }
}

impl PutSink for SqliteSink {
    async fn put(&self, key: String, event: String) -> Result<(), PutError> {
        let is_same = match self.commits.put(Record { key, event }).await? {
            Written::Stored => true,
            Written::Differs {
                sent,
                held: Some(held),
            } => same_event(&held, &sent.event),
            Written::Differs { sent, held: None } => self.is_held(sent).await?,
            Written::Damaged => {
                let reason = "what the key holds is damaged; `alldata-peer verify` finds all such";
                return Err(PutError::Failed(reason.to_owned()));
            }
        };
        if is_same {
            Ok(())
        } else {
            Err(PutError::Conflict)
        }
    }
}
