//! Writes batches of puts into the store, each batch one transaction.
//!
//! Never overwrites, never updates, never deletes.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params};

use super::{
    APPLICATION_ID, SCHEMA, SCHEMA_VERSION, check_format, digest, is_empty, open, store_error,
};
use crate::error::Error;
use crate::group_commit::{Record, Writer};
use crate::sink::PutError;

/// After how many seconds to try a put again that met a locked store.
const LOCKED_RETRY_SECONDS: u32 = 1;

/// What became of a put.
#[derive(Debug)]
pub(crate) enum Written {
    /// Its event is stored, byte for byte.
    Stored,
    /// The key holds an event with other bytes, which may be the same value.
    Held {
        /// What the key holds.
        held: String,
        /// What was to be put.
        sent: String,
    },
}

/// The one writer of a store in this process.
#[derive(Debug)]
pub(crate) struct StoreWriter {
    path: PathBuf,
    /// `None` after an error that a connection may not survive.
    connection: Option<Connection>,
}

impl StoreWriter {
    /// Opens the store at `path`, which is made if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            path: path.to_owned(),
            connection: Some(connect(path)?),
        })
    }

    fn try_write(&mut self, records: &[Record]) -> Result<Vec<Written>, WriteError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            missing => missing.insert(connect(&self.path)?),
        };
        let result = insert_all(connection, records);
        if result.as_ref().is_err_and(spoils_connection) || !connection.is_autocommit() {
            self.connection = None;
        }
        Ok(result?)
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
    Open(#[from] Error),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl WriteError {
    fn for_each_put(self) -> PutError {
        match &self {
            Self::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                PutError::Unavailable {
                    retry_after_seconds: LOCKED_RETRY_SECONDS,
                }
            }
            Self::Sqlite(error) => PutError::Failed(error.to_string()),
            Self::Open(error) => PutError::Failed(match std::error::Error::source(error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            }),
        }
    }
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

fn connect(path: &Path) -> Result<Connection, Error> {
    let fail = store_error(path, "open");
    let mut connection = open(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
    )?;
    create_schema(&mut connection).map_err(&fail)?;
    check_format(&connection, path)?;
    // After the check: these write to the file, which may be another program's.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
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

fn insert_all(connection: &mut Connection, records: &[Record]) -> rusqlite::Result<Vec<Written>> {
    let received_ms = unix_milliseconds();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut written = Vec::with_capacity(records.len());
    {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO events (key, event, digest, received_ms) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (key) DO NOTHING",
        )?;
        let mut select = transaction.prepare_cached("SELECT event FROM events WHERE key = ?1")?;
        for Record { key, event } in records {
            let digest = digest(key, event);
            let added = insert.execute(params![key, event, digest, received_ms])?;
            if added > 0 {
                written.push(Written::Stored);
                continue;
            }
            let held: String = select.query_row([key], |row| row.get(0))?;
            written.push(if held == *event {
                Written::Stored
            } else {
                let sent = event.clone();
                Written::Held { held, sent }
            });
        }
    }
    transaction.commit()?;
    Ok(written)
}

/// The time in milliseconds since 1970 UTC; a clock before that counts as then.
fn unix_milliseconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
