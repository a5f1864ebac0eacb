//! The file `PATH.overwritten` beside a store that was overwritten or truncated while a server had it open, and of
//! which no copy could be made: acknowledged events may be missing.
//!
//! A server removes it only after it has made a copy after all. Otherwise an operator decides.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use super::copy_names::sync_directory;
use super::side_files::beside;
use crate::error::Error;

/// What its name has behind that of the database.
const SUFFIX: &str = ".overwritten";

/// Marks a store. `what` says what happened to it.
pub(super) fn mark(database: &Path, what: &str) {
    let path = beside(database, SUFFIX);
    if let Err(error) = write(&path, what) {
        tracing::error!("cannot write {}: {error}", path.display());
    }
}

fn write(path: &Path, what: &str) -> io::Result<()> {
    let mut file = match File::create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        file => file?,
    };
    writeln!(
        file,
        "{what} while a server had it open. The store may lack events that were acknowledged.\n\
         Compare it with other replicas or a backup. Remove this file to have a server use it as it is."
    )?;
    file.sync_all()?;
    sync_directory(path)
}

/// Removes the mark of a store of which there is a copy now.
pub(super) fn unmark(store: &Path) {
    let database = fs::canonicalize(store).unwrap_or_else(|_| store.to_owned());
    let path = beside(&database, SUFFIX);
    if let Err(error) = fs::remove_file(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::error!("cannot remove {}: {error}", path.display());
    }
}

/// What the mark of a store says, if it has one.
pub(super) fn found(store: &Path) -> Option<String> {
    let database = fs::canonicalize(store).unwrap_or_else(|_| store.to_owned());
    let path = beside(&database, SUFFIX);
    fs::symlink_metadata(&path).ok()?;
    Some(format!(
        "it was changed while a server had it open, and may lack events: {} says what to do",
        path.display()
    ))
}

/// Holds that a store has no mark.
pub(super) fn check(database: &Path) -> Result<(), Error> {
    match found(database) {
        None => Ok(()),
        Some(reason) => Err(Error::StoreFormat {
            path: database.to_owned(),
            reason,
        }),
    }
}
