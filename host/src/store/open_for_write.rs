//! Opens a store for writing, or exclusively; makes a new one, and removes it if the start fails.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, MAIN_DB, OpenFlags, TransactionBehavior, ffi};

use super::schema::{APPLICATION_ID, SCHEMA, SCHEMA_VERSION, check_format, is_empty, open};
use super::side_files::{beside, bytes_in};
use super::store_error::store_error;
use super::wal;
use super::wal_size::{Frames, KEPT_WAL_BYTES, Mode};
use crate::error::Error;

/// Whether the last connection leaves the WAL as it is when it is closed, without a checkpoint.
pub(super) const CHECKPOINT_NOT_ON_CLOSE: DbConfig = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;

/// Connects if nobody else has the store open, which ends whatever its connections had in common. Until the
/// connection is dropped nobody else can open it. It leaves the WAL as it is.
pub(super) fn lock_exclusive(path: &Path) -> Result<Connection, Error> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let alone = connection
        .set_db_config(CHECKPOINT_NOT_ON_CLOSE, true)
        .and_then(|_| connection.busy_timeout(Duration::ZERO))
        .and_then(|()| connection.pragma_update(None, "locking_mode", "EXCLUSIVE"))
        .and_then(|()| connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK"));
    alone.map_err(store_error(path, "open"))?;
    Ok(connection)
}

/// The same, and removes a file of the store, which SQLite makes anew; a WAL only after all that is in it, by
/// whomever, has gone to the database.
pub(super) fn remove_alone(path: &Path, removed: &Path) -> Result<(), Error> {
    let connection = lock_exclusive(path)?;
    if is_wal(removed) {
        wal::rewrite_and_sync(path)?;
        let checkpointed = Frames::after(&connection, Mode::Truncate);
        let checkpointed = checkpointed.map_err(store_error(path, "empty the WAL of"))?;
        if checkpointed.is_busy || !checkpointed.is_known || checkpointed.frames.written > 0 {
            let busy = ffi::Error::new(ffi::SQLITE_BUSY);
            let busy = rusqlite::Error::SqliteFailure(busy, None);
            return Err(store_error(path, "empty the WAL of")(busy));
        }
    }
    match fs::remove_file(removed) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::File {
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

/// Does what makes a store at `path` if there is none. If that fails, it leaves no new store behind.
pub(crate) fn remove_new_on_error<T>(
    path: &Path,
    make: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let is_new = !path.exists();
    let made = make();
    if made.is_err() && is_new {
        remove_unused(path);
    }
    made
}

/// Removes a store that this process has just made, unless another has put something into it. One that has it
/// open by now finds it to be removed.
fn remove_unused(path: &Path) {
    let Ok(database) = fs::canonicalize(path) else {
        return;
    };
    // So that nobody puts anything meanwhile.
    let mut alone = None;
    if bytes_in(&database) > 0 {
        let Ok(connection) = lock_exclusive(path) else {
            return;
        };
        let is_used = connection.query_row("SELECT EXISTS (SELECT 1 FROM events)", (), |row| {
            row.get::<_, bool>(0)
        });
        if !is_used.is_ok_and(|is_used| !is_used) {
            return;
        }
        alone = Some(connection);
    }
    for suffix in ["-wal", "-shm", "-journal", ""] {
        // What can't be removed is an empty store, which a later start takes.
        let _ = fs::remove_file(beside(&database, suffix));
    }
    drop(alone);
}

/// Opens a store for writing. With `SQLITE_OPEN_CREATE` one is made where there is none.
pub(super) fn connect(path: &Path, create: OpenFlags) -> Result<Connection, Error> {
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
            reason: format!("its journal mode is {mode:?}, and can't be set to WAL"),
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
