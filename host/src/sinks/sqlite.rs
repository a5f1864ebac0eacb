//! The durable sink: events in a SQLite database.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::error::Error;
use crate::group_commit::{GroupCommit, Record};
use crate::same_event::same_event;
use crate::sink::{PutError, PutSink};
use crate::store::{StoreWriter, Written};

/// The size in bytes beyond which two events are compared on a thread of their own, and one such
/// pair at a time: comparing takes time, and some times their size in memory.
const LARGE_EVENT_BYTES: usize = 64 * 1024;

/// A write-once store in a SQLite file; see [`store`](crate::store).
///
/// A put is acknowledged once its transaction is on the disk. Those that wait share one.
#[derive(Debug)]
pub struct SqliteSink {
    commits: GroupCommit<StoreWriter>,
    large_comparison: Arc<Semaphore>,
}

impl SqliteSink {
    /// Opens the store at `path`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// When the file can't be opened, is no store of a version that is known here, or the thread
    /// can't be started.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let writer = StoreWriter::open(path)?;
        let commits =
            GroupCommit::start("sqlite-writer", writer).map_err(|source| Error::Thread {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self {
            commits,
            large_comparison: Arc::new(Semaphore::new(1)),
        })
    }

    /// Whether two events are the same value, without holding up the runtime.
    async fn is_same(&self, held: String, sent: String) -> Result<bool, PutError> {
        if held.len() + sent.len() <= LARGE_EVENT_BYTES {
            return Ok(same_event(&held, &sent));
        }
        let turn = Arc::clone(&self.large_comparison)
            .acquire_owned()
            .await
            .map_err(|error| PutError::Failed(error.to_string()))?;
        let comparison = tokio::task::spawn_blocking(move || {
            let same = same_event(&held, &sent);
            drop(turn);
            same
        });
        comparison
            .await
            .map_err(|error| PutError::Failed(error.to_string()))
    }
}

impl PutSink for SqliteSink {
    async fn put(&self, key: String, event: String) -> Result<(), PutError> {
        match self.commits.put(Record { key, event }).await? {
            Written::Stored => Ok(()),
            Written::Held { held, sent } => match self.is_same(held, sent).await? {
                true => Ok(()),
                false => Err(PutError::Conflict),
            },
        }
    }
}
