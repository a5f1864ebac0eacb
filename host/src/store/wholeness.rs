//! Whether what is in a store's files is whole, read by a connection of its own.
//!
//! Never writes.

use std::path::Path;

use rusqlite::{ErrorCode, OpenFlags, ffi};

use super::open;
use crate::error::Error;

/// Whether the structure of a store is whole and it has a key, read anew.
pub(super) fn is_whole(path: &Path, key: Option<&str>) -> rusqlite::Result<bool> {
    match check(path, key) {
        Err(error) if is_damage(&error) => Ok(false),
        result => result,
    }
}

fn check(path: &Path, key: Option<&str>) -> rusqlite::Result<bool> {
    let connection = match open(path, OpenFlags::SQLITE_OPEN_READ_WRITE) {
        Err(Error::Store { source, .. }) => return Err(source.0),
        // That it can't be opened now says nothing of what is in it.
        Err(_) => {
            let closed = ffi::Error::new(ffi::SQLITE_CANTOPEN);
            return Err(rusqlite::Error::SqliteFailure(closed, None));
        }
        Ok(connection) => connection,
    };
    let check = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get::<_, String>(0))?;
    let has_key = match key {
        None => true,
        Some(key) => {
            let sql = "SELECT EXISTS (SELECT 1 FROM events WHERE key = ?1)";
            connection.query_row(sql, [key], |row| row.get(0))?
        }
    };
    Ok(check == "ok" && has_key)
}

/// Whether an error says that what is in the files is wrong, not that they could not be read.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    let is_cut_off = (error.sqlite_error())
        .is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHORT_READ);
    is_cut_off
        || matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        )
}
