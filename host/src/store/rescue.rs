//! What is left of a store that was removed or cut off under a server: a copy beside its path.
//!
//! Never overwrites a file, and never decides that a store is lost.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::location::{beside, bytes_in};
use super::{StoreReader, open, store_error};
use crate::error::Error;

/// What the name of a copy ends with that stands for a database which is gone.
const OF_DATABASE: &str = ".rescued";

/// What the name of a copy ends with whose events belong into the database beside it.
const OF_WAL: &str = ".rescued-wal";

/// What is added to the name of a copy until it is whole.
const PARTIAL: &str = ".partial";

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

/// What a copy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To stand for a database that is gone.
    Database,
    /// To be put into the database, which lacks what its WAL had.
    Wal,
}

/// Copies all that a connection still reads into a new file beside the path of its database, which has
/// its name once it is whole.
pub(super) fn rescue(
    connection: &Connection,
    database: &Path,
    modes: &Modes,
    purpose: Purpose,
) -> Result<PathBuf, Error> {
    make_directory(database, modes)?;
    let partial = make_partial(database, modes)?;
    let named =
        write_copy(connection, &partial).and_then(|()| name_copy(&partial, database, purpose));
    // Half a copy is none, and a whole one has another name by now.
    let _ = fs::remove_file(&partial);
    let copy = named?;
    sync_directory(&copy).map_err(file_error(&copy, "sync"))?;
    Ok(copy)
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
    let synced = File::open(copy).and_then(|file| file.sync_all());
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
    let copies = copies_of(database, OF_DATABASE);
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
    match check(path, key) {
        Err(error) if is_damage(&error) => Ok(false),
        result => result,
    }
}

fn check(path: &Path, key: Option<&str>) -> rusqlite::Result<bool> {
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

/// The copies of what a WAL had that are beside a database.
pub(super) fn copies_of_wal(database: &Path) -> Vec<PathBuf> {
    copies_of(database, OF_WAL)
}

fn copies_of(database: &Path, suffix: &str) -> Vec<PathBuf> {
    let paths = (1..=MAX_COPIES).map(|number| numbered(database, suffix, number));
    paths.filter(|path| path.exists()).collect()
}

fn numbered(database: &Path, suffix: &str, number: u32) -> PathBuf {
    match number {
        1 => beside(database, suffix),
        _ => beside(database, &format!("{suffix}-{number}")),
    }
}

/// Does something with the first of the numbered names that is free.
fn with_free_name<T>(
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

/// An empty file that only those may read who could read the database.
fn make_partial(database: &Path, modes: &Modes) -> Result<PathBuf, Error> {
    let suffix = format!("{OF_DATABASE}{PARTIAL}");
    let (path, file) = with_free_name(database, &suffix, |path| File::create_new(path))?;
    if let Some(mode) = &modes.database {
        let set = file.set_permissions(mode.clone());
        set.map_err(file_error(&path, "make"))?;
    }
    Ok(path)
}

/// Gives a whole copy a name that no other has.
fn name_copy(partial: &Path, database: &Path, purpose: Purpose) -> Result<PathBuf, Error> {
    let suffix = match purpose {
        Purpose::Database => OF_DATABASE,
        Purpose::Wal => OF_WAL,
    };
    let named = with_free_name(database, suffix, |path| {
        match fs::hard_link(partial, path) {
            // A file system without hard links.
            Err(error) if error.kind() != ErrorKind::AlreadyExists && !path.exists() => {
                fs::rename(partial, path)
            }
            result => result,
        }
    });
    named.map(|(path, ())| path)
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
