//! The durable sink: events in a SQLite database.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alldata_peer_protocol::same_event::same_event;

use super::SinkOptions;
use crate::error::Error;
use crate::metrics::sink_metrics::{SinkMetrics, StoreMetrics};
use crate::sink::comparison::{Comparison, SMALL_BYTES};
use crate::sink::group_commit::{GroupCommit, QueueLimits, Record};
use crate::sink::{BoxSink, PutError, PutSink, SinkInternals};
use crate::store::{
    self, InsertOutcome, StoreReader, StoreWriter, StoredEvent, check_store_path,
    remove_new_on_error,
};

/// A write-once store in a SQLite file; see [`store`](crate::store).
///
/// A put is acknowledged once its transaction is on the disk. Those that wait share one. Dropping
/// the sink blocks until what is queued is written and the file is closed.
#[derive(Debug)]
pub struct SqliteSink {
    path: PathBuf,
    store: Arc<StoreMetrics>,
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
        Self::open_with(
            path,
            SinkOptions {
                queue: limits,
                ..SinkOptions::default()
            },
        )
    }

    /// The same with other limits, and with a check of the whole file before it is used.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open), and when the check finds that the store is damaged.
    pub fn open_with(path: &Path, options: SinkOptions) -> Result<Self, Error> {
        check_store_path(path)?;
        // Before anything is written to it.
        if options.verify_store && fs::metadata(path).is_ok_and(|found| found.len() > 0) {
            check(path)?;
        }
        let (commits, store) = remove_new_on_error(path, || {
            let writer = StoreWriter::open(path, options.max_wal_bytes)?;
            let store = writer.metrics();
            let commits = GroupCommit::start("sqlite-writer", options.queue, writer);
            let commits = commits.map_err(|source| Error::Thread {
                path: path.to_owned(),
                source,
            })?;
            Ok((commits, store))
        })?;
        let comparison = Comparison::with_reasons(commits.unavailable_reasons());
        Ok(Self {
            path: path.to_owned(),
            store,
            commits,
            comparison,
        })
    }

    /// Whether an event has the value of the one that its key holds, which has other bytes.
    async fn is_stored(&self, sent: Record, stored: StoredEvent) -> Result<bool, PutError> {
        let Record { key, event } = sent;
        match stored.event {
            Some(stored) if event.len() <= SMALL_BYTES => Ok(same_event(&stored, &event)),
            known => {
                let (path, digest) = (self.path.clone(), stored.digest);
                let read_stored = move || known.map_or_else(|| read(&path, &key, digest), Ok);
                self.comparison.is_same(event, digest, read_stored).await
            }
        }
    }
}

/// Reads the event under a key, which has to have this digest.
fn read(path: &Path, key: &str, digest: [u8; blake3::OUT_LEN]) -> Result<String, PutError> {
    let stored = StoreReader::open(path).and_then(|store| store.get(key));
    match stored {
        Ok(Some(stored)) if store::digest(key, &stored) == digest => Ok(stored),
        Ok(_) => Err(PutError::Failed(format!(
            "{} is not the file any more that holds the key {key:?}",
            path.display()
        ))),
        Err(error) => Err(PutError::Failed(error.to_string())),
    }
}

/// Holds that the structure of a store is whole.
fn check(path: &Path) -> Result<(), Error> {
    let damaged = |what: &str| Error::StoreFormat {
        path: path.to_owned(),
        reason: format!("it is damaged: {}", what.replace('\n', "; ")),
    };
    match StoreReader::open(path)?.quick_check() {
        Ok(found) => found.first().map_or(Ok(()), |first| Err(damaged(first))),
        Err(Error::Store { source, .. }) => Err(damaged(&source.to_string())),
        Err(error) => Err(error),
    }
}

impl PutSink for SqliteSink {
    async fn put(&self, key: String, event: String) -> Result<(), PutError> {
        let (outcome, sent) = self.commits.put(Record { key, event }).await?;
        let is_same = match outcome {
            InsertOutcome::Stored => true,
            // Its room would be part of each put's.
            InsertOutcome::Differs(stored) => Box::pin(self.is_stored(sent, stored)).await?,
            InsertOutcome::Damaged => {
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

    fn health(&self) -> Result<(), String> {
        self.store.fault().map_or(Ok(()), Err)
    }

    fn boxed(self) -> BoxSink {
        let reasons = self.commits.unavailable_reasons();
        let metrics = SinkMetrics {
            store: Some(Arc::clone(&self.store)),
            ..self.commits.metrics()
        };
        BoxSink::with_internals(
            self,
            SinkInternals {
                reasons,
                metrics: Some(metrics),
                ..SinkInternals::default()
            },
        )
    }
}
