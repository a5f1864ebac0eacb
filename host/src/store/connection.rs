//! The connection of a store's writer: what is behind it is on the disk, or it says so.
//!
//! Never knows what is written.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, Transaction, TransactionBehavior, ffi};

use super::{
    APPLICATION_ID, SCHEMA, SCHEMA_VERSION, check_format, is_empty, log, open, store_error,
};
use crate::error::Error;

/// At how many pages in the log they are moved to the database: as many as SQLite has by itself.
const CHECKPOINT_PAGES: i64 = 1000;

/// How long there are no checkpoints where they failed twice: a long log is written once more
/// before they are tried again.
const CHECKPOINT_PAUSE: Duration = Duration::from_secs(10);

/// Has the log checkpointed when a connection is closed, or not.
const CHECKPOINT_NOT_ON_CLOSE: DbConfig = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error(transparent)]
    Store(Error),
    #[error(transparent)]
    Sqlite(rusqlite::Error),
}

/// Connects to a store, and again where an error says that this is better.
#[derive(Debug)]
pub(super) struct Connector {
    path: PathBuf,
    /// `None` after an error that a connection may not survive.
    connected: Option<Connected>,
    /// Whether a checkpoint failed, so that there may be none.
    has_failed_checkpoint: bool,
    /// When it was last tried to have checkpoints again.
    tried_at: Option<Instant>,
}

#[derive(Debug)]
struct Connected {
    connection: Connection,
    /// Whether all that stands in the log is on the disk. Until then nothing is acknowledged, and
    /// nothing goes from the log to the database, which a loss of power would leave half done.
    is_log_synced: bool,
    has_checkpoints: bool,
}

impl Connector {
    /// Connects to the store at `path`, which is made if it is not there.
    pub(super) fn new(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            path: path.to_owned(),
            connected: Some(Connected::open(path, OpenFlags::SQLITE_OPEN_CREATE, true)?),
            has_failed_checkpoint: false,
            tried_at: None,
        })
    }

    /// Does one transaction, which `write` commits: then it is on the disk, with all before it.
    pub(super) fn transact<T>(
        &mut self,
        write: impl FnOnce(Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, WriteError> {
        self.restore_checkpoints();
        let connected = match &mut self.connected {
            Some(connected) => connected,
            // Never makes a new store where the old one is out of reach, such as unmounted.
            missing => {
                let has_checkpoints = !self.has_failed_checkpoint;
                let connected = Connected::open(&self.path, OpenFlags::empty(), has_checkpoints);
                missing.insert(connected.map_err(WriteError::Store)?)
            }
        };
        let begun = connected.begin(&self.path);
        let result = begun.and_then(|transaction| write(transaction).map_err(WriteError::Sqlite));
        let is_spoiled = match &result {
            Ok(_) => false,
            Err(WriteError::Store(_)) => true,
            Err(WriteError::Sqlite(error)) => spoils_connection(error),
        };
        if is_spoiled || !connected.connection.is_autocommit() {
            self.abandon();
        } else if result.is_ok() {
            self.checkpoint();
        }
        result
    }

    /// Moves a long log to the database. A put waits for that, but does not depend on it.
    fn checkpoint(&mut self) {
        let Some(Err(error)) = self.connected.as_ref().map(Connected::checkpoint) else {
            return;
        };
        let path = self.path.display();
        tracing::warn!("cannot move the log of the store {path} to its database: {error}");
        if spoils_connection(&error) {
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
        match hold_alone(&self.path) {
            Ok(()) => self.has_failed_checkpoint = false,
            Err(error) => {
                let path = self.path.display();
                tracing::warn!("the log of the store {path} grows, it is not free: {error}");
            }
        }
    }

    /// Disconnects as the end of the process would, which leaves the log to whoever connects next:
    /// after an error nobody knows what of it is on the disk.
    fn abandon(&mut self) {
        if let Some(connected) = self.connected.take()
            && let Err(error) = (connected.connection).set_db_config(CHECKPOINT_NOT_ON_CLOSE, true)
        {
            tracing::warn!("a connection to the store is closed with a checkpoint: {error}");
        }
    }
}

impl Connected {
    /// Connects, and syncs the log unless another process is writing to it.
    fn open(path: &Path, create: OpenFlags, has_checkpoints: bool) -> Result<Self, Error> {
        let mut connected = Self {
            connection: connect(path, create)?,
            is_log_synced: false,
            has_checkpoints,
        };
        match connected.begin(path) {
            Ok(_) => {}
            Err(WriteError::Sqlite(error)) if is_busy(&error) => {}
            Err(WriteError::Sqlite(error)) => return Err(store_error(path, "open")(error)),
            Err(WriteError::Store(error)) => return Err(error),
        }
        Ok(connected)
    }

    /// Begins a transaction, before which all is on the disk.
    fn begin(&mut self, path: &Path) -> Result<Transaction<'_>, WriteError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(WriteError::Sqlite)?;
        if !self.is_log_synced {
            log::write_again(path).map_err(WriteError::Store)?;
            transaction
                .set_db_config(CHECKPOINT_NOT_ON_CLOSE, !self.has_checkpoints)
                .map_err(WriteError::Sqlite)?;
            self.is_log_synced = true;
        }
        Ok(transaction)
    }

    /// Moves to the database what is in the log, if that is much and nobody is reading it.
    fn checkpoint(&self) -> rusqlite::Result<()> {
        if !self.has_checkpoints {
            return Ok(());
        }
        let mut look = (self.connection).prepare_cached("PRAGMA wal_checkpoint(NOOP)")?;
        let pages: i64 = look.query_row((), |row| row.get(1))?;
        if pages >= CHECKPOINT_PAGES {
            let mut checkpoint =
                (self.connection).prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?;
            checkpoint.query_row((), |_| Ok(()))?;
        }
        Ok(())
    }
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

/// Whether a connection is better opened anew after this error. A full disk is none: what could
/// be written when there is room again needs no new connection.
fn spoils_connection(error: &rusqlite::Error) -> bool {
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

/// Succeeds if nobody else has the store open, which ends whatever its connections had in common.
fn hold_alone(path: &Path) -> Result<(), Error> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let alone = connection
        .set_db_config(CHECKPOINT_NOT_ON_CLOSE, true)
        .and_then(|_| connection.busy_timeout(Duration::ZERO))
        .and_then(|()| connection.pragma_update(None, "locking_mode", "EXCLUSIVE"))
        .and_then(|()| connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK"));
    alone.map_err(store_error(path, "open"))
}

/// Opens a store for writing. With `SQLITE_OPEN_CREATE` one is made where there is none.
fn connect(path: &Path, create: OpenFlags) -> Result<Connection, Error> {
    let fail = store_error(path, "open");
    let mut connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | create)?;
    // What can't be opened to be written to, SQLite opens to be read: then every put would fail.
    if connection.is_readonly(MAIN_DB).map_err(&fail)? {
        let read_only = ffi::Error::new(ffi::SQLITE_READONLY);
        return Err(fail(rusqlite::Error::SqliteFailure(read_only, None)));
    }
    if !create.is_empty() {
        create_schema(&mut connection).map_err(&fail)?;
    }
    check_format(&connection, path)?;
    // After the check: this writes to the file, which may be another program's.
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0))
        .map_err(&fail)?;
    if mode != "wal" {
        return Err(Error::StoreFormat {
            path: path.to_owned(),
            reason: format!("it can't have a write-ahead log, its journal is {mode:?}"),
        });
    }
    // Only now, since without a checkpoint files would stay beside a store that can't be used.
    connection
        .set_db_config(CHECKPOINT_NOT_ON_CLOSE, true)
        .map_err(&fail)?;
    // SQLite's own checkpoints do not say that they failed.
    connection
        .execute_batch(
            "PRAGMA synchronous = FULL;
             PRAGMA fullfsync = ON;
             PRAGMA checkpoint_fullfsync = ON;
             PRAGMA wal_autocheckpoint = 0;",
        )
        .map_err(&fail)?;
    Ok(connection)
}

/// Makes an empty database a store. Two processes that do so at once take turns.
fn create_schema(connection: &mut Connection) -> rusqlite::Result<()> {
    if !is_empty(connection)? {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if is_empty(&transaction)? {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    transaction.commit()
}
