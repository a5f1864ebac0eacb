//! The names of the copies and renamed files beside a store.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::file_id::id_at;
use super::side_files::beside;
use crate::error::Error;

/// The suffix of a copy that replaces a lost database.
pub(super) const OF_DATABASE: &str = ".rescued";

/// The suffix of a copy whose events are to be merged into the database beside it.
pub(super) const OF_WAL: &str = ".rescued-wal";

/// The suffix of a copy with events that conflict with those of the store.
pub(super) const OF_CONFLICTS: &str = ".rescued-conflicts";

/// The suffix of a WAL whose database was replaced by a copy.
pub(super) const OF_OLD_WAL: &str = ".rescued-old-wal";

/// The suffix of a WAL of another database.
pub(super) const OF_FOREIGN_WAL: &str = ".foreign-wal";

/// The further suffix of a copy that is not complete yet.
pub(super) const PARTIAL: &str = ".partial";

/// The most copies of one kind beside a store: each is of another accident, which an operator should look at.
const MAX_COPIES: u32 = 16;

/// The copies of a WAL beside a database.
pub(super) fn copies_of_wal(database: &Path) -> Vec<PathBuf> {
    copies_of(database, OF_WAL)
}

pub(super) fn copies_of(database: &Path, suffix: &str) -> Vec<PathBuf> {
    let paths = (1..=MAX_COPIES).map(|number| numbered(database, suffix, number));
    paths.filter(|path| path.exists()).collect()
}

fn numbered(database: &Path, suffix: &str, number: u32) -> PathBuf {
    match number {
        1 => beside(database, suffix),
        _ => beside(database, &format!("{suffix}-{number}")),
    }
}

/// Calls `take` with numbered names until one is free.
pub(super) fn with_free_name<T>(
    database: &Path,
    suffix: &str,
    take: impl Fn(&Path) -> io::Result<T>,
) -> Result<(PathBuf, T), Error> {
    for number in 1..=MAX_COPIES {
        let path = numbered(database, suffix, number);
        match take(&path) {
            Ok(taken) => return Ok((path, taken)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(file_error(&path, "make")(error)),
        }
    }
    let error = io::Error::new(ErrorKind::AlreadyExists, "there are too many already");
    Err(file_error(&beside(database, suffix), "make")(error))
}

/// Renames a file to a free name.
pub(super) fn set_aside(file: &Path, database: &Path, suffix: &str) -> Result<PathBuf, Error> {
    let (aside, ()) = with_free_name(database, suffix, |path| give_name(file, path))?;
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(file_error(file, "remove")(error)),
        _ => Ok(aside),
    }
}

/// Links a file to a free name, or renames it on file systems without hard links.
pub(super) fn give_name(file: &Path, name: &Path) -> io::Result<()> {
    match fs::hard_link(file, name) {
        // A file system without hard links.
        Err(error) if error.kind() != ErrorKind::AlreadyExists && !name.exists() => {
            fs::rename(file, name)
        }
        result => result,
    }
}

/// Removes the previous name of a copy that was completed or promoted: a crash may have left both names.
pub(super) fn remove_second_names(database: &Path) {
    let is_same = |path: &Path, other: &Path| id_at(path).is_some() && id_at(path) == id_at(other);
    let partial = copies_of(database, &format!("{OF_DATABASE}{PARTIAL}"));
    let copies = copies_of(database, OF_DATABASE);
    let mut whole = copies_of_wal(database);
    whole.extend(copies.iter().cloned());
    whole.push(database.to_owned());
    let second = partial
        .iter()
        .filter(|partial| whole.iter().any(|whole| is_same(partial, whole)));
    let second = second.chain(copies.iter().filter(|copy| is_same(copy, database)));
    for path in second {
        if let Err(error) = fs::remove_file(path) {
            tracing::warn!("cannot remove {}: {error}", path.display());
        }
    }
}

pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

pub(super) fn file_error(path: &Path, operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::File {
        operation,
        path: path.to_owned(),
        source,
    }
}
