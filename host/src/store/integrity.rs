//! Checks that the files of a store are intact, on a separate connection that only reads.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::immutable::open_immutable;
use super::schema::{APPLICATION_ID, SCHEMA_VERSION, open};
use crate::error::Error;

/// A key that a database is known to hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExpectedKey<'a> {
    pub(super) key: &'a str,
    /// Whether it has to be in the database itself, whatever the WAL has.
    pub(super) is_in_database: bool,
}

/// Whether the files are a store that is intact and holds a key.
pub(super) fn is_intact(
    path: &Path,
    expected_key: Option<ExpectedKey<'_>>,
) -> rusqlite::Result<bool> {
    match check(path, expected_key) {
        Err(error) if is_corruption(&error) => Ok(false),
        result => result,
    }
}

fn check(path: &Path, expected_key: Option<ExpectedKey<'_>>) -> rusqlite::Result<bool> {
    // The WAL of a store may have enough of the pages of a foreign database that it looks like the store.
    if let Some(ExpectedKey {
        key,
        is_in_database: true,
    }) = expected_key
        && !has_key(&sqlite(open_immutable(path))?, key)?
    {
        return Ok(false);
    }
    let connection = sqlite(open(path, OpenFlags::SQLITE_OPEN_READ_WRITE))?;
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    if pragma("application_id")? != APPLICATION_ID || pragma("user_version")? != SCHEMA_VERSION {
        return Ok(false);
    }
    let check = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get::<_, String>(0))?;
    let has_witness = match expected_key {
        Some(ExpectedKey {
            key,
            is_in_database: false,
        }) => has_key(&connection, key)?,
        _ => true,
    };
    Ok(check == "ok" && has_witness)
}

/// The key of the event that was put last into a database, whatever its WAL has.
pub(super) fn last_key_of_database(path: &Path) -> rusqlite::Result<String> {
    last_key(&sqlite(open_immutable(path))?)
}

/// The key of the event that was put last into a store.
pub(super) fn last_key(connection: &Connection) -> rusqlite::Result<String> {
    let sql = "SELECT key FROM events ORDER BY rowid DESC LIMIT 1";
    connection.query_row(sql, (), |row| row.get(0))
}

fn has_key(connection: &Connection, key: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM events WHERE key = ?1)";
    match connection.query_row(sql, [key], |row| row.get(0)) {
        // There is no such table.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::Unknown) => Ok(false),
        result => result,
    }
}

fn sqlite(opened: Result<Connection, Error>) -> rusqlite::Result<Connection> {
    opened.map_err(|error| match error {
        Error::Store { source, .. } => source.0,
        // That it can't be opened now says nothing of what is in it.
        _ => {
            let closed = ffi::Error::new(ffi::SQLITE_CANTOPEN);
            rusqlite::Error::SqliteFailure(closed, None)
        }
    })
}

/// Whether an error means that the files are corrupt, not that they could not be read.
pub(super) fn is_corruption(error: &rusqlite::Error) -> bool {
    let is_cut_off = (error.sqlite_error())
        .is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHORT_READ);
    is_cut_off
        || matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        )
}
