//! What is left of a store that was removed or cut off under a server: a copy beside its path.
//!
//! Never overwrites a file, and never decides that a store is lost.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags};

use super::location::{beside, bytes_in};
use super::{StoreReader, open, store_error};
use crate::error::Error;

/// What the name of a copy ends with.
const SUFFIX: &str = ".rescued";

/// How many copies there may be beside one store: each is of another accident, and somebody should
/// have looked at them by then.
const MAX_COPIES: u32 = 16;

/// What the files of a store may be done with, and by whom.
#[derive(Debug, Clone)]
pub(super) struct Modes {
    directory: Option<Permissions>,
    database: Option<Permissions>,
}

impl Modes {
    pub(super) fn of(database: &Path) -> Self {
        let mode = |path: &Path| fs::metadata(path).ok().map(|found| found.permissions());
        Self {
            directory: database.parent().and_then(mode),
            database: mode(database),
        }
    }
}

/// Copies all that a connection still reads into a new file beside the path of its database.
pub(super) fn rescue(
    connection: &Connection,
    database: &Path,
    modes: &Modes,
) -> Result<PathBuf, Error> {
    make_directory(database, modes)?;
    let copy = make_copy(database, modes)?;
    let written = write_copy(connection, &copy);
    if written.is_err() {
        // Half a copy is none. What can't be removed is told by the error.
        let _ = fs::remove_file(&copy);
    }
    written.map(|()| copy)
}

fn write_copy(connection: &Connection, copy: &Path) -> Result<(), Error> {
    let fail = store_error(copy, "write");
    let vacuum = connection.prepare("VACUUM INTO ?1");
    vacuum
        .and_then(|mut vacuum| vacuum.execute([path_as_text(copy)]))
        .map_err(&fail)?;
    let found = StoreReader::open(copy)?.verify(|_| {})?;
    if !found.is_clean() {
        return Err(Error::StoreFormat {
            path: copy.to_owned(),
            reason: format!("{} of its events are damaged", found.damaged.len()),
        });
    }
    let synced = File::open(copy)
        .and_then(|file| file.sync_all())
        .and_then(|()| sync_directory(copy));
    synced.map_err(file_error(copy, "sync"))
}

/// Puts the events of a copy into the store that it is a copy of, and removes it.
pub(super) fn merge(connection: &Connection, copy: &Path) -> Result<(), Error> {
    let fail = store_error(copy, "read");
    connection
        .execute("ATTACH DATABASE ?1 AS rescued", [path_as_text(copy)])
        .map_err(&fail)?;
    let copied = connection.execute_batch(
        "BEGIN IMMEDIATE;
         INSERT OR IGNORE INTO main.events SELECT * FROM rescued.events;
         COMMIT",
    );
    if copied.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK").map_err(&fail)?;
    }
    let detached = connection.execute_batch("DETACH DATABASE rescued");
    copied.and(detached).map_err(&fail)?;
    fs::remove_file(copy).map_err(file_error(copy, "remove"))
}

/// Makes the copy of a store the store itself, where that is not there any more.
pub(super) fn adopt(database: &Path) -> Result<(), Error> {
    let copies = copies_of(database);
    let [copy, others @ ..] = &copies[..] else {
        return Ok(());
    };
    if bytes_in(database) > 0 {
        tracing::warn!(
            "{} may have events that are not in the store: `alldata-peer export` and `import` copy them, then remove it",
            copy.display()
        );
        return Ok(());
    }
    if !others.is_empty() {
        return Err(Error::StoreFormat {
            path: database.to_owned(),
            reason: format!(
                "it is missing, and there are {} copies of what it had, from {}: rename the right one",
                copies.len(),
                copy.display()
            ),
        });
    }
    let wal = beside(database, "-wal");
    if bytes_in(&wal) > 0 {
        // The copy has what is in it; in the copy it would be of another moment.
        let aside = beside(copy, "-old-wal");
        fs::rename(&wal, aside).map_err(file_error(&wal, "move"))?;
    }
    match fs::rename(copy, database) {
        Ok(()) => {}
        // Another process was faster.
        Err(error) if error.kind() == ErrorKind::NotFound && database.exists() => return Ok(()),
        Err(error) => return Err(file_error(copy, "rename")(error)),
    }
    sync_directory(database).map_err(file_error(database, "sync"))?;
    tracing::warn!(
        "the store {} was missing: it is {} now, which was rescued when it was removed or cut off",
        database.display(),
        copy.display()
    );
    Ok(())
}

/// Whether the structure of a store is whole and it has a key, read anew.
pub(super) fn is_whole(path: &Path, key: Option<&str>) -> rusqlite::Result<bool> {
    let connection = match open(path, OpenFlags::SQLITE_OPEN_READ_WRITE) {
        Err(Error::Store { source, .. }) => return Err(source.0),
        Err(_) => return Ok(false),
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

fn copies_of(database: &Path) -> Vec<PathBuf> {
    let paths = (1..=MAX_COPIES).map(|number| path_of_copy(database, number));
    paths.filter(|path| path.exists()).collect()
}

fn path_of_copy(database: &Path, number: u32) -> PathBuf {
    match number {
        1 => beside(database, SUFFIX),
        _ => beside(database, &format!("{SUFFIX}-{number}")),
    }
}

/// An empty file that only those may read who could read the database.
fn make_copy(database: &Path, modes: &Modes) -> Result<PathBuf, Error> {
    for number in 1..=MAX_COPIES {
        let path = path_of_copy(database, number);
        match File::create_new(&path) {
            Ok(file) => {
                let set =
                    (modes.database.clone()).map_or(Ok(()), |mode| file.set_permissions(mode));
                return set
                    .map(|()| path.clone())
                    .map_err(file_error(&path, "make"));
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(file_error(&path, "make")(error)),
        }
    }
    let error = io::Error::new(ErrorKind::AlreadyExists, "there are too many already");
    Err(file_error(&path_of_copy(database, 1), "make")(error))
}

/// Makes the directory anew if that was removed too.
fn make_directory(database: &Path, modes: &Modes) -> Result<(), Error> {
    let Some(directory) = database.parent().filter(|path| !path.exists()) else {
        return Ok(());
    };
    let made = DirBuilder::new().recursive(true).create(directory);
    let set = made.and_then(|()| match &modes.directory {
        Some(mode) => fs::set_permissions(directory, mode.clone()),
        None => Ok(()),
    });
    set.map_err(file_error(directory, "make"))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// A path as SQLite takes it, whatever its bytes.
fn path_as_text(path: &Path) -> ToSqlOutput<'_> {
    #[cfg(unix)]
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
    #[cfg(not(unix))]
    let bytes = path.as_os_str().as_encoded_bytes();
    ToSqlOutput::Borrowed(ValueRef::Text(bytes))
}

fn file_error(path: &Path, operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::File {
        operation,
        path: path.to_owned(),
        source,
    }
}
