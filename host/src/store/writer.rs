//! Writes batches of puts into the store, each batch one transaction.
//!
//! Never overwrites, never updates, never deletes.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{
    Connection, ErrorCode, MAIN_DB, OpenFlags, Transaction, TransactionBehavior, ffi, params,
};

use super::{
    APPLICATION_ID, SCHEMA, SCHEMA_VERSION, check_format, digest, is_empty, log, open, store_error,
};
use crate::error::Error;
use crate::group_commit::{Record, Writer};
use crate::sink::PutError;

/// After how many seconds to try a put again that met a locked store.
const LOCKED_RETRY_SECONDS: u32 = 1;

/// The size in bytes up to which an event that differs from a held one is compared with a copy of
/// that. Of larger ones, so many copies could wait at a time that they would fill the memory.
const MAX_COPIED_BYTES: usize = 64 * 1024;

/// What became of a put.
#[derive(Debug)]
pub(crate) enum Written {
    /// Its event is stored, byte for byte.
    Stored,
    /// The key holds an event with other bytes, which may be the same value.
    Differs {
        /// What was to be put.
        sent: Record,
        /// What the key holds, unless it is large.
        held: Option<String>,
    },
    /// The key holds what is no text any more.
    Damaged,
}

/// The one writer of a store in this process.
#[derive(Debug)]
pub(crate) struct StoreWriter {
    path: PathBuf,
    /// `None` after an error that a connection may not survive.
    connected: Option<Connected>,
}

#[derive(Debug)]
struct Connected {
    connection: Connection,
    /// Whether all that stands in the log is on the disk. Until then nothing is acknowledged, and
    /// nothing goes from the log to the database, which a loss of power would leave half done.
    is_log_synced: bool,
}

impl StoreWriter {
    /// Opens the store at `path`, which is made if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            path: path.to_owned(),
            connected: Some(Connected::open(path, OpenFlags::SQLITE_OPEN_CREATE)?),
        })
    }

    fn try_write(&mut self, records: &[Record]) -> Result<Vec<Written>, WriteError> {
        let connected = match &mut self.connected {
            Some(connected) => connected,
            // Never makes a new store where the old one is out of reach, such as unmounted.
            missing => {
                let connected = Connected::open(&self.path, OpenFlags::empty());
                missing.insert(connected.map_err(WriteError::Open)?)
            }
        };
        let result = connected.insert_all(&self.path, records);
        let is_spoiled = match &result {
            Ok(_) => false,
            Err(WriteError::Open(_)) => true,
            Err(WriteError::Sqlite(error)) => spoils_connection(error),
        };
        if (is_spoiled || !connected.connection.is_autocommit())
            && let Some(connected) = self.connected.take()
        {
            connected.abandon();
        }
        result
    }
}

impl Connected {
    /// Connects, and syncs the log unless another process is writing to it.
    fn open(path: &Path, create: OpenFlags) -> Result<Self, Error> {
        let mut connected = Self {
            connection: connect(path, create)?,
            is_log_synced: false,
        };
        match connected.begin(path) {
            Ok(_) => {}
            Err(WriteError::Sqlite(error)) if is_busy(&error) => {}
            Err(WriteError::Sqlite(error)) => return Err(store_error(path, "open")(error)),
            Err(WriteError::Open(error)) => return Err(error),
        }
        Ok(connected)
    }

    /// Begins a transaction, for which all before it is on the disk.
    fn begin(&mut self, path: &Path) -> Result<Transaction<'_>, WriteError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(WriteError::Sqlite)?;
        if !self.is_log_synced {
            log::write_again(path).map_err(WriteError::Open)?;
            let without_checkpoint = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            let set = transaction.set_db_config(without_checkpoint, false);
            set.map_err(WriteError::Sqlite)?;
            self.is_log_synced = true;
        }
        Ok(transaction)
    }

    fn insert_all(&mut self, path: &Path, records: &[Record]) -> Result<Vec<Written>, WriteError> {
        let transaction = self.begin(path)?;
        insert_all(transaction, records).map_err(WriteError::Sqlite)
    }

    /// Closes as the end of the process would, which leaves the log to whoever opens the store
    /// next: after an error nobody knows what of it is on the disk.
    fn abandon(self) {
        let without_checkpoint = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        if let Err(error) = self.connection.set_db_config(without_checkpoint, true) {
            tracing::warn!("a connection to the store is closed with a checkpoint: {error}");
        }
    }
}

impl Writer for StoreWriter {
    type Written = Written;

    fn write(&mut self, records: &[Record]) -> Vec<Result<Written, PutError>> {
        match self.try_write(records) {
            Ok(written) => written.into_iter().map(Ok).collect(),
            Err(error) => {
                let error = error.for_each_put();
                records.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }
}

/// Why a batch was not written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Open(Error),
    #[error(transparent)]
    Sqlite(rusqlite::Error),
}

impl WriteError {
    fn for_each_put(self) -> PutError {
        match &self {
            Self::Sqlite(error) if is_busy(error) => PutError::Unavailable {
                retry_after_seconds: LOCKED_RETRY_SECONDS,
            },
            Self::Sqlite(error) => PutError::Failed(error.to_string()),
            Self::Open(error) => PutError::Failed(match std::error::Error::source(error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            }),
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
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
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(&fail)?;
    connection
        .execute_batch(
            "PRAGMA synchronous = FULL;
             PRAGMA fullfsync = ON;
             PRAGMA checkpoint_fullfsync = ON;",
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

fn insert_all(transaction: Transaction<'_>, records: &[Record]) -> rusqlite::Result<Vec<Written>> {
    let received_ms = unix_milliseconds();
    let written = {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO events (key, event, digest, received_ms) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (key) DO NOTHING",
        )?;
        let mut select = transaction.prepare_cached("SELECT event FROM events WHERE key = ?1")?;
        let insert_one = |record: &Record| {
            let Record { key, event } = record;
            match insert.execute(params![key, event, digest(key, event), received_ms])? {
                0 => select.query_row([key], |row| compare(row.get_ref(0)?, record)),
                _ => Ok(Written::Stored),
            }
        };
        records.iter().map(insert_one).collect::<Result<_, _>>()?
    };
    transaction.commit()?;
    Ok(written)
}

/// Compares what a key holds with what was to be put, as far as their bytes tell.
fn compare(held: ValueRef<'_>, sent: &Record) -> rusqlite::Result<Written> {
    let Ok(held) = held.as_bytes() else {
        return Ok(Written::Damaged);
    };
    if held == sent.event.as_bytes() {
        return Ok(Written::Stored);
    }
    let Ok(held) = std::str::from_utf8(held) else {
        return Ok(Written::Damaged);
    };
    let is_small = held.len() + sent.event.len() <= MAX_COPIED_BYTES;
    Ok(Written::Differs {
        sent: sent.clone(),
        held: is_small.then(|| held.to_owned()),
    })
}

/// The time in milliseconds since 1970 UTC; a clock before that counts as then.
fn unix_milliseconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
