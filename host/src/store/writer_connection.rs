//! The writer's connection to a store: runs transactions, checkpoints the WAL, and reconnects after errors.
//!
//! A transaction that it reports as committed is on the disk.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{OpenFlags, Transaction};

use super::copy_names::copies_of_wal;
use super::fault_state::FaultState;
use super::file_id::FileId;
use super::integrity;
use super::open_for_write::{CHECKPOINT_NOT_ON_CLOSE, lock_exclusive};
use super::open_store::OpenStore;
use super::start_check::{check_location, follow_link};
use super::store_error::store_error;
use super::wal_ownership::check_wal;
use super::wal_size::{Frames, Mode, WalLimit, try_checkpoint};
use super::write_error::{WriteError, is_busy, needs_reconnect};
use crate::error::Error;

/// The time between two attempts to checkpoint again after a checkpoint failed: each attempt rewrites the
/// whole WAL.
const CHECKPOINT_PAUSE: Duration = Duration::from_secs(10);

/// The connection of the writer, opened again after errors that need that.
#[derive(Debug)]
pub(super) struct WriterConnection {
    /// Absolute, so that a change of the working directory does not matter.
    pub(super) path: PathBuf,
    /// The database file that was opened first. No other is ever written to.
    pub(super) id: FileId,
    /// `None` after an error that needs a new connection.
    pub(super) open_store: Option<OpenStore>,
    pub(super) fault: FaultState,
    /// When the files were last checked after a write.
    pub(super) inspected_at: Option<Instant>,
    /// Copies whose events may be missing from the store.
    pub(super) to_merge: Vec<PathBuf>,
    /// The last key known to have been checkpointed into the database file.
    pub(super) expected_key: Option<String>,
    /// The key that was inserted last.
    pub(super) last_key: Option<String>,
    wal_limit: WalLimit,
    /// Whether a checkpoint failed: then none runs until the store was opened exclusively.
    has_failed_checkpoint: bool,
    /// The last attempt to checkpoint again.
    tried_at: Option<Instant>,
}

impl WriterConnection {
    /// Connects to the store at `path`, which is made if it is not there.
    pub(super) fn new(path: &Path, max_wal_bytes: u64) -> Result<Self, Error> {
        let path = std::path::absolute(path).map_err(|source| Error::File {
            operation: "open",
            path: path.to_owned(),
            source,
        })?;
        check_location(&path)?;
        let open_store = OpenStore::open(&path, OpenFlags::SQLITE_OPEN_CREATE, true)?;
        // A damaged or empty table is no error here.
        let last_key = integrity::last_key(&open_store.connection).ok();
        let expected_key = integrity::last_key_of_database(&open_store.files.database).ok();
        let mut connection = Self {
            path,
            id: open_store.files.id,
            to_merge: copies_of_wal(&open_store.files.database),
            open_store: Some(open_store),
            fault: FaultState::default(),
            inspected_at: None,
            last_key,
            expected_key,
            wal_limit: WalLimit::new(max_wal_bytes),
            has_failed_checkpoint: false,
            tried_at: None,
        };
        match connection.merge_rescued() {
            Err(WriteError::Store(error)) => Err(error),
            Err(WriteError::Sqlite(error)) if !is_busy(&error) => {
                Err(store_error(&connection.path, "write")(error))
            }
            _ => Ok(connection),
        }
    }

    /// Runs one transaction, which `write` commits. On success it is on the disk, with all transactions before
    /// it, in the files at the store's path. `last_key` returns the key that was inserted last, if any.
    pub(super) fn transact<T>(
        &mut self,
        write: impl FnOnce(Transaction<'_>) -> rusqlite::Result<T>,
        last_key: impl FnOnce(&T) -> Option<String>,
    ) -> Result<T, WriteError> {
        self.inspect_before_write()?;
        self.restore_checkpoints();
        self.connect()?;
        self.check_wal_size()?;
        let Some(open_store) = &mut self.open_store else {
            return Err(WriteError::WalFull);
        };
        let begun = open_store.begin(&self.path);
        let result = begun.and_then(|transaction| write(transaction).map_err(WriteError::Sqlite));
        let is_spoiled = match &result {
            Ok(_) => false,
            Err(WriteError::Sqlite(error)) => needs_reconnect(error),
            Err(_) => true,
        };
        if is_spoiled || !open_store.connection.is_autocommit() {
            self.discard();
        } else if let Ok(written) = &result {
            self.last_key = last_key(written).or(self.last_key.take());
            self.inspect_commit().map_err(WriteError::after_commit)?;
            self.resume();
            self.checkpoint();
        }
        result
    }

    /// Makes sure that there is a connection to the file that was opened first.
    pub(super) fn connect(&mut self) -> Result<(), WriteError> {
        if self.open_store.is_some() {
            return self.merge_rescued();
        }
        check_wal(&follow_link(self.path.clone())).map_err(WriteError::Store)?;
        self.prepare_reopen()?;
        // Without SQLITE_OPEN_CREATE: no new store while the file system of the old one is unmounted.
        let has_checkpoints = !self.has_failed_checkpoint;
        let open_store = OpenStore::open(&self.path, OpenFlags::empty(), has_checkpoints);
        let open_store = open_store.map_err(WriteError::Store)?;
        if open_store.files.id != self.id {
            return self.inspect();
        }
        self.open_store = Some(open_store);
        self.merge_rescued()
    }

    /// Returns an error if the WAL is at its limit and no checkpoint can empty it.
    fn check_wal_size(&mut self) -> Result<(), WriteError> {
        let Some(open_store) = &mut self.open_store else {
            return Ok(());
        };
        let bytes = open_store.wal.frames.bytes(open_store.page_bytes);
        if !self.wal_limit.is_reached(bytes) {
            return Ok(());
        }
        let checkpointed = match open_store.can_checkpoint() {
            true => {
                let checkpointed = try_checkpoint(&open_store.connection, Mode::Passive);
                open_store.remember();
                checkpointed
            }
            false => Frames::after(&open_store.connection, Mode::Noop),
        };
        match checkpointed {
            Ok(checkpoint) if checkpoint.frames.is_all_checkpointed() => Ok(()),
            Ok(checkpoint) => {
                let bytes = checkpoint.frames.bytes(open_store.page_bytes);
                self.wal_limit.log_full(&self.path, bytes);
                Err(WriteError::WalFull)
            }
            Err(error) => {
                self.checkpoint_failed(&error);
                Err(WriteError::Sqlite(error))
            }
        }
    }

    /// The size of the WAL, if there is a connection.
    pub(super) fn wal_bytes(&self) -> Option<u64> {
        let open_store = self.open_store.as_ref()?;
        Some(open_store.wal.frames.bytes(open_store.page_bytes))
    }

    /// The size of the database file when it was last checked, if there is a connection.
    pub(super) fn database_bytes(&self) -> Option<u64> {
        let open_store = self.open_store.as_ref()?;
        Some(open_store.stamp.bytes)
    }

    /// Checkpoints a long WAL. A put waits for that, but its result does not depend on it.
    fn checkpoint(&mut self) {
        let Some(open_store) = &mut self.open_store else {
            return;
        };
        let result = open_store.checkpoint();
        if open_store.wal.frames.is_all_checkpointed() {
            self.expected_key.clone_from(&self.last_key);
        }
        let bytes = open_store.wal.frames.bytes(open_store.page_bytes);
        self.wal_limit.log_growth(&self.path, bytes);
        if let Err(error) = result {
            self.checkpoint_failed(&error);
        }
    }

    pub(super) fn checkpoint_failed(&mut self, error: &rusqlite::Error) {
        let path = self.path.display();
        tracing::warn!("cannot checkpoint the WAL of the store {path}: {error}");
        if needs_reconnect(error) {
            self.discard();
            self.has_failed_checkpoint = true;
        }
    }

    /// After a failed checkpoint, pages that it or an earlier one wrote may not be on the disk, and no later
    /// sync reports that. So the whole WAL has to be checkpointed again. SQLite does that for the first
    /// connection to a store, not for one that joins others. Until then the WAL grows.
    fn restore_checkpoints(&mut self) {
        let is_early = (self.tried_at).is_some_and(|tried| tried.elapsed() < CHECKPOINT_PAUSE);
        if !self.has_failed_checkpoint || is_early {
            return;
        }
        self.tried_at = Some(Instant::now());
        self.discard();
        match lock_exclusive(&self.path) {
            Ok(_) => self.has_failed_checkpoint = false,
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(
                    "the WAL of the store {path} grows until it can be opened exclusively: {error}"
                );
            }
        }
    }

    /// Disconnects without a checkpoint, as the end of the process would. The next connection recovers the WAL:
    /// after an error nobody knows which part of it is on the disk.
    pub(super) fn discard(&mut self) {
        if let Some(open_store) = self.open_store.take()
            && let Err(error) = (open_store.connection).set_db_config(CHECKPOINT_NOT_ON_CLOSE, true)
        {
            tracing::warn!("a connection to the store is closed with a checkpoint: {error}");
        }
    }
}

impl Drop for WriterConnection {
    fn drop(&mut self) {
        // The result was asked for by an explicit close.
        let _ = self.close();
    }
}
