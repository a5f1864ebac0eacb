//! The connection of a store's writer: what is behind it is on the disk, or it says so.
//!
//! Never knows what is written.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{ErrorCode, OpenFlags, Transaction};

use super::connected::Connected;
use super::copies::copies_of_wal;
use super::guard::Trouble;
use super::identity::FileId;
use super::location::{check_place, resolve};
use super::opening::{CHECKPOINT_NOT_ON_CLOSE, lock_exclusive};
use super::wal_match::check_wal;
use super::wal_size::{Frames, Mode, WalLimit, at_once};
use super::{store_error, wholeness};
use crate::error::{Error, file_size_limit};

/// How long there are no checkpoints where they failed twice: a long log is written once more
/// before they are tried again.
const CHECKPOINT_PAUSE: Duration = Duration::from_secs(10);

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error(transparent)]
    Store(Error),
    #[error("{0}{limit}", limit = file_size_limit(.0))]
    Sqlite(rusqlite::Error),
    #[error("{0} while the server has it open")]
    Changed(String),
    #[error("the WAL has reached its limit")]
    WalFull,
}

impl WriteError {
    /// What was committed may be stored, whatever kept it from being looked at.
    fn after_commit(self) -> Self {
        match self {
            Self::Sqlite(error) => Self::Changed(format!("the WAL can't be looked at: {error}")),
            other => other,
        }
    }
}

/// Connects to a store, and again where an error says that this is better.
#[derive(Debug)]
pub(super) struct Connector {
    /// Absolute, so that it means the same at any time.
    pub(super) path: PathBuf,
    /// The file that it opened first: it never writes to another.
    pub(super) id: FileId,
    /// `None` after an error that a connection may not survive.
    pub(super) connected: Option<Connected>,
    pub(super) trouble: Trouble,
    /// When all was in order after a write.
    pub(super) looked_at: Option<Instant>,
    /// Copies whose events the store may lack.
    pub(super) to_merge: Vec<PathBuf>,
    /// The key that was last moved to the database, as far as is known.
    pub(super) witness: Option<String>,
    /// The key that was new last.
    pub(super) last_key: Option<String>,
    wal_limit: WalLimit,
    /// Whether a checkpoint failed, so that there may be none.
    has_failed_checkpoint: bool,
    /// When it was last tried to have checkpoints again.
    tried_at: Option<Instant>,
}

impl Connector {
    /// Connects to the store at `path`, which is made if it is not there.
    pub(super) fn new(path: &Path, max_wal_bytes: u64) -> Result<Self, Error> {
        let path = std::path::absolute(path).map_err(|source| Error::File {
            operation: "open",
            path: path.to_owned(),
            source,
        })?;
        check_place(&path)?;
        let connected = Connected::open(&path, OpenFlags::SQLITE_OPEN_CREATE, true)?;
        // One that is damaged, or that there is none, is no matter here.
        let last_key = wholeness::last_key(&connected.connection).ok();
        let witness = wholeness::last_key_of_database(&connected.files.database).ok();
        let mut connector = Self {
            path,
            id: connected.files.id,
            to_merge: copies_of_wal(&connected.files.database),
            connected: Some(connected),
            trouble: Trouble::default(),
            looked_at: None,
            last_key,
            witness,
            wal_limit: WalLimit::new(max_wal_bytes),
            has_failed_checkpoint: false,
            tried_at: None,
        };
        match connector.merge_rescued() {
            Err(WriteError::Store(error)) => Err(error),
            Err(WriteError::Sqlite(error)) if !is_busy(&error) => {
                Err(store_error(&connector.path, "write")(error))
            }
            _ => Ok(connector),
        }
    }

    /// Does one transaction, which `write` commits: then it is on the disk, with all before it, in
    /// the files that are at the store's path. `last_key` is the last key that was new, if there is one.
    pub(super) fn transact<T>(
        &mut self,
        write: impl FnOnce(Transaction<'_>) -> rusqlite::Result<T>,
        last_key: impl FnOnce(&T) -> Option<String>,
    ) -> Result<T, WriteError> {
        self.inspect_before_write()?;
        self.restore_checkpoints();
        self.connect()?;
        self.check_wal_size()?;
        let Some(connected) = &mut self.connected else {
            return Err(WriteError::WalFull);
        };
        let begun = connected.begin(&self.path);
        let result = begun.and_then(|transaction| write(transaction).map_err(WriteError::Sqlite));
        let is_spoiled = match &result {
            Ok(_) => false,
            Err(WriteError::Sqlite(error)) => spoils_connection(error),
            Err(_) => true,
        };
        if is_spoiled || !connected.connection.is_autocommit() {
            self.abandon();
        } else if let Ok(written) = &result {
            self.last_key = last_key(written).or(self.last_key.take());
            self.inspect_commit().map_err(WriteError::after_commit)?;
            self.settle();
            self.checkpoint();
        }
        result
    }

    /// Has a connection to the file that was opened first.
    pub(super) fn connect(&mut self) -> Result<(), WriteError> {
        if self.connected.is_some() {
            return self.merge_rescued();
        }
        check_wal(&resolve(self.path.clone())).map_err(WriteError::Store)?;
        self.renew()?;
        // Never makes a new store where the old one is out of reach, such as unmounted.
        let has_checkpoints = !self.has_failed_checkpoint;
        let connected = Connected::open(&self.path, OpenFlags::empty(), has_checkpoints);
        let connected = connected.map_err(WriteError::Store)?;
        if connected.files.id != self.id {
            return self.inspect();
        }
        self.connected = Some(connected);
        self.merge_rescued()
    }

    /// Holds that the WAL may grow, after moving to the database what can be moved.
    fn check_wal_size(&mut self) -> Result<(), WriteError> {
        let Some(connected) = &mut self.connected else {
            return Ok(());
        };
        let bytes = connected.wal.frames.bytes(connected.page_bytes);
        if !self.wal_limit.is_reached(bytes) {
            return Ok(());
        }
        let moved = match connected.may_checkpoint() {
            true => {
                let moved = at_once(&connected.connection, Mode::Passive);
                connected.remember();
                moved
            }
            false => Frames::after(&connected.connection, Mode::Noop),
        };
        match moved {
            Ok(checkpoint) if checkpoint.frames.is_all_moved() => Ok(()),
            Ok(checkpoint) => {
                let bytes = checkpoint.frames.bytes(connected.page_bytes);
                self.wal_limit.say_full(&self.path, bytes);
                Err(WriteError::WalFull)
            }
            Err(error) => {
                self.checkpoint_failed(&error);
                Err(WriteError::Sqlite(error))
            }
        }
    }

    /// Moves a long log to the database. A put waits for that, but does not depend on it.
    fn checkpoint(&mut self) {
        let Some(connected) = &mut self.connected else {
            return;
        };
        let result = connected.checkpoint();
        if connected.wal.frames.is_all_moved() {
            self.witness.clone_from(&self.last_key);
        }
        let bytes = connected.wal.frames.bytes(connected.page_bytes);
        self.wal_limit.say_grown(&self.path, bytes);
        if let Err(error) = result {
            self.checkpoint_failed(&error);
        }
    }

    pub(super) fn checkpoint_failed(&mut self, error: &rusqlite::Error) {
        let path = self.path.display();
        tracing::warn!("cannot move the log of the store {path} to its database: {error}");
        if spoils_connection(error) {
            self.abandon();
            self.has_failed_checkpoint = true;
        }
    }

    /// After a checkpoint that failed, what it and those before it moved may not be on the disk,
    /// and no later sync would tell. So all that is in the log has to be moved once more: SQLite
    /// does that for the first who connects, not for who joins others. Until then the log grows.
    fn restore_checkpoints(&mut self) {
        let is_early = (self.tried_at).is_some_and(|tried| tried.elapsed() < CHECKPOINT_PAUSE);
        if !self.has_failed_checkpoint || is_early {
            return;
        }
        self.tried_at = Some(Instant::now());
        self.abandon();
        match lock_exclusive(&self.path) {
            Ok(_) => self.has_failed_checkpoint = false,
            Err(error) => {
                let path = self.path.display();
                tracing::warn!("the log of the store {path} grows, it is not free: {error}");
            }
        }
    }

    /// Disconnects as the end of the process would, which leaves the log to whoever connects next:
    /// after an error nobody knows what of it is on the disk.
    pub(super) fn abandon(&mut self) {
        if let Some(connected) = self.connected.take()
            && let Err(error) = (connected.connection).set_db_config(CHECKPOINT_NOT_ON_CLOSE, true)
        {
            tracing::warn!("a connection to the store is closed with a checkpoint: {error}");
        }
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        // Who closes it by itself has asked what is lost.
        let _ = self.finish();
    }
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

/// Whether a connection is better opened anew after this error. A full disk is none: what could
/// be written when there is room again needs no new connection.
pub(super) fn spoils_connection(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
        )
    )
}
