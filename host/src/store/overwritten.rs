//! The mark beside a store whose database was overwritten under a server, where nothing could be rescued:
//! it may lack events that were acknowledged, and does not show it.
//!
//! Never removed by a server: only who has looked at the store knows that it may be used.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use super::copies::sync_directory;
use super::location::beside;
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

/// Holds that a store has no mark.
pub(super) fn check(database: &Path) -> Result<(), Error> {
    let path = beside(database, SUFFIX);
    if fs::symlink_metadata(&path).is_err() {
        return Ok(());
    }
    Err(Error::StoreFormat {
        path: database.to_owned(),
        reason: format!(
            "it was overwritten while a server had it open, and may lack events: {} says what to do",
            path.display()
        ),
    })
}
