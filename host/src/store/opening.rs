//! Opens a store to be written to, or alone.
//!
//! Never keeps a connection.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, MAIN_DB, OpenFlags, TransactionBehavior, ffi};

use super::location::beside;
use super::wal_size::{Frames, KEPT_WAL_BYTES, Mode};
use super::{
    APPLICATION_ID, SCHEMA, SCHEMA_VERSION, check_format, is_empty, log, open, store_error,
};
use crate::error::Error;

/// Has the log checkpointed when a connection is closed, or not.
pub(super) const CHECKPOINT_NOT_ON_CLOSE: DbConfig = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;

/// Succeeds if nobody else has the store open, which ends whatever its connections had in common.
/// Then it also removes a file of the store, which SQLite makes anew; a WAL only after all that is in
/// it, by whomever, has gone to the database.
pub(super) fn hold_alone(path: &Path, removed: Option<&Path>) -> Result<(), Error> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let alone = connection
        .set_db_config(CHECKPOINT_NOT_ON_CLOSE, true)
        .and_then(|_| connection.busy_timeout(Duration::ZERO))
        .and_then(|()| connection.pragma_update(None, "locking_mode", "EXCLUSIVE"))
        .and_then(|()| connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK"));
    alone.map_err(store_error(path, "open"))?;
    if removed.is_some_and(is_wal) {
        log::write_again(path)?;
        let moved = Frames::after(&connection, Mode::Truncate);
        let moved = moved.map_err(store_error(path, "empty the WAL of"))?;
        if moved.is_busy || !moved.is_known || moved.frames.written > 0 {
            let busy = ffi::Error::new(ffi::SQLITE_BUSY);
            let busy = rusqlite::Error::SqliteFailure(busy, None);
            return Err(store_error(path, "empty the WAL of")(busy));
        }
    }
    match removed.map(fs::remove_file) {
        Some(Err(error)) if error.kind() != ErrorKind::NotFound => Err(Error::File {
            operation: "renew",
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

fn is_wal(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"-wal")
}

/// Opens a store for writing. With `SQLITE_OPEN_CREATE` one is made where there is none; if that fails,
/// nothing is left of it.
pub(super) fn connect(path: &Path, create: OpenFlags) -> Result<Connection, Error> {
    let is_new = !create.is_empty() && !path.exists();
    let connected = open_to_write(path, create);
    if connected.is_err() && is_new {
        remove_empty(path);
    }
    connected
}

/// Removes a database that has not been written to. One that another process has open by now is found to
/// be removed by that.
fn remove_empty(path: &Path) {
    let Ok(database) = fs::canonicalize(path) else {
        return;
    };
    if fs::metadata(&database).is_ok_and(|found| found.len() == 0) {
        // What can't be removed is an empty file, which a later start takes.
        let _ = fs::remove_file(&database);
        let _ = fs::remove_file(beside(&database, "-journal"));
    }
}

fn open_to_write(path: &Path, create: OpenFlags) -> Result<Connection, Error> {
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
    let kept = i64::try_from(KEPT_WAL_BYTES).unwrap_or(i64::MAX);
    connection
        .pragma_update(None, "journal_size_limit", kept)
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
