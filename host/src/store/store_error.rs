//! The errors of SQLite as errors of a store.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

use crate::error::{Error, SqliteError};

/// Makes an [`Error`] of an error of SQLite.
pub(super) fn store_error(
    path: &Path,
    operation: &'static str,
) -> impl Fn(rusqlite::Error) -> Error {
    move |source| match lack_of_descriptors(&source) {
        Some(source) => Error::File {
            operation,
            path: path.to_owned(),
            source,
        },
        None => Error::Store {
            operation,
            path: path.to_owned(),
            source: SqliteError(source),
        },
    }
}

/// Why SQLite could not open a file where this process may open no further one. To be asked while the
/// connection is still there: what it has open is part of it.
fn lack_of_descriptors(error: &rusqlite::Error) -> Option<io::Error> {
    if error.sqlite_error_code() != Some(ErrorCode::CannotOpen) {
        return None;
    }
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let lacking = [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
        let error = std::fs::read_dir(std::path::MAIN_SEPARATOR_STR).err()?;
        lacking.contains(&error.raw_os_error()).then_some(error)
    }
    #[cfg(not(unix))]
    None
}
