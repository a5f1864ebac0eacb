//! Refuses to open a store for writing where that would lose events.

use std::fs;
use std::path::{Path, PathBuf};

use super::file_id::links;
use super::location::resolve_path;
use super::side_files::{beside, bytes_in};
use super::{overwritten_mark, promote_copy, wal_ownership};
use crate::error::Error;

/// Holds that a store may be opened or made at a path.
pub(super) fn check_location(path: &Path) -> Result<(), Error> {
    let refuse = |reason: String| Error::StoreFormat {
        path: path.to_owned(),
        reason,
    };
    let database = follow_link(resolve_path(path)?);
    promote_copy::promote_copy(&database)?;
    overwritten_mark::check(&database)?;
    let wal = beside(&database, "-wal");
    match fs::metadata(&database) {
        Ok(found) if links(&found) > 1 => Err(refuse(format!(
            "it has {} hard links, and servers that open it by different names lose events; leave only one",
            links(&found)
        ))),
        Ok(found) if found.len() > 0 => wal_ownership::check_wal(&database),
        // SQLite would delete the WAL, which has what the database lacks.
        _ if bytes_in(&wal) > 0 => Err(refuse(format!(
            "it is missing or empty, but {} has events of it: bring it back, or move that file away",
            wal.display()
        ))),
        _ => Ok(()),
    }
}

/// Where a link leads, also to a file that is not there.
pub(super) fn follow_link(path: PathBuf) -> PathBuf {
    if let Ok(database) = fs::canonicalize(&path) {
        return database;
    }
    match fs::read_link(&path) {
        Ok(target) => {
            let target = path.parent().unwrap_or(&path).join(target);
            resolve_path(&target).unwrap_or(target)
        }
        Err(_) => path,
    }
}
