//! Copies a store that was removed, truncated or overwritten while a server had it open.
//!
//! Never overwrites a file.

use std::ffi::c_int;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ffi};

use super::StoreReader;
use super::copy_names::{
    OF_DATABASE, OF_WAL, PARTIAL, copies_of, file_error, give_name, sync_directory, with_free_name,
};
use super::integrity::is_corruption;
use super::schema::open;
use super::store_error::store_error;
use crate::error::Error;

/// Has SQLite's backup copy all pages in one step.
pub(super) const ALL_PAGES: c_int = -1;

/// The permissions of a store and its directory.
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

/// Makes a copy of a file that is no store and was removed while it is open.
#[derive(Debug)]
pub(crate) struct FileRescue {
    path: PathBuf,
    modes: Modes,
}

impl FileRescue {
    /// For the file that is at `path` now.
    pub(crate) fn of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            modes: Modes::of(path),
        }
    }

    /// The existing copies.
    pub(crate) fn copies(&self) -> Vec<PathBuf> {
        copies_of(&self.path, OF_DATABASE)
    }

    /// Copies the whole file to a new one beside its path, which gets its name once it is complete.
    pub(crate) fn copy(&self, file: &mut File) -> Result<PathBuf, Error> {
        make_directory(&self.path, &self.modes)?;
        let partial = make_partial(&self.path, &self.modes)?;
        let copied = copy_synced(file, &partial).map_err(file_error(&partial, "write"));
        let named = copied.and_then(|()| name_copy(&partial, &self.path, Purpose::Database));
        let _ = fs::remove_file(&partial);
        let copy = named?;
        sync_directory(&copy).map_err(file_error(&copy, "sync"))?;
        Ok(copy)
    }
}

fn copy_synced(file: &mut File, copy: &Path) -> io::Result<()> {
    let mut copy = OpenOptions::new().write(true).open(copy)?;
    file.seek(SeekFrom::Start(0))?;
    io::copy(file, &mut copy)?;
    copy.sync_all()
}

/// The purpose of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To replace a database that is lost.
    Database,
    /// To be merged into the database, which lacks the events of its WAL.
    Wal,
}

/// What is expected of a copy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) purpose: Purpose,
    /// Whether events that were damaged before are copied as they are, as if nothing else is left.
    pub(super) takes_damaged: bool,
    /// The key that was put last, if known.
    pub(super) last_key: Option<&'a str>,
}

/// Copies all that a connection can still read to a new file beside the path of its database, which gets its
/// name once it is complete.
pub(super) fn rescue(
    connection: &Connection,
    database: &Path,
    modes: &Modes,
    wanted: Wanted<'_>,
) -> Result<PathBuf, Error> {
    make_directory(database, modes)?;
    let partial = make_partial(database, modes)?;
    let named = write_copy(connection, &partial, wanted)
        .and_then(|()| name_copy(&partial, database, wanted.purpose));
    // Half a copy is none, and a whole one has another name by now.
    let _ = fs::remove_file(&partial);
    let copy = named?;
    sync_directory(&copy).map_err(file_error(&copy, "sync"))?;
    Ok(copy)
}

fn write_copy(connection: &Connection, copy: &Path, wanted: Wanted<'_>) -> Result<(), Error> {
    let takes_damaged = wanted.takes_damaged;
    let vacuum = connection.prepare("VACUUM INTO ?1");
    let vacuum = vacuum.and_then(|mut vacuum| vacuum.execute([path_as_text(copy)]));
    match vacuum {
        // What is left of it is in its pages, and the rest can be read.
        Err(error) if takes_damaged && is_corruption(&error) => {
            copy_pages(connection, copy)?;
            tracing::error!(
                "the structure of the store was damaged, and is in its copy too: `alldata-peer verify` tells where ({error})"
            );
            return sync(copy);
        }
        result => result.map_err(store_error(copy, "write"))?,
    };
    let reader = StoreReader::open(copy)?;
    check_last_key(&reader, copy, wanted)?;
    let found = reader.verify(|_| {})?;
    let damaged = found.damaged.len();
    if !found.structure.is_empty() || damaged > 0 && !takes_damaged {
        return Err(Error::StoreFormat {
            path: copy.to_owned(),
            reason: format!("{damaged} of its events are damaged"),
        });
    }
    if damaged > 0 {
        tracing::error!(
            "{damaged} events were damaged in the store, and are in its copy too: `alldata-peer verify` lists them"
        );
    }
    sync(copy)
}

/// Checks that a copy holds the event that was put last: the rest of a truncated WAL may be an older state that
/// is intact in itself.
fn check_last_key(reader: &StoreReader, copy: &Path, wanted: Wanted<'_>) -> Result<(), Error> {
    let Some(key) = wanted.last_key else {
        return Ok(());
    };
    if reader.contains(key)? {
        return Ok(());
    }
    if wanted.takes_damaged {
        tracing::error!(
            "the copy {} lacks the event that was put last, under the key {key:?}",
            copy.display()
        );
        return Ok(());
    }
    Err(Error::StoreFormat {
        path: copy.to_owned(),
        reason: format!("it lacks the event that was put last, under the key {key:?}"),
    })
}

/// Copies all pages as they are, including those in the WAL.
fn copy_pages(connection: &Connection, copy: &Path) -> Result<(), Error> {
    let fail = store_error(copy, "write");
    // What was copied before the damage.
    let emptied = File::options().write(true).open(copy);
    let emptied = emptied.and_then(|file| file.set_len(0));
    emptied.map_err(file_error(copy, "empty"))?;
    let mut target = open(copy, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let backup = Backup::new(connection, &mut target).map_err(&fail)?;
    match backup.step(ALL_PAGES).map_err(&fail)? {
        StepResult::Done => Ok(()),
        _ => {
            let busy = ffi::Error::new(ffi::SQLITE_BUSY);
            Err(fail(rusqlite::Error::SqliteFailure(busy, None)))
        }
    }
}

fn sync(copy: &Path) -> Result<(), Error> {
    let synced = File::open(copy).and_then(|file| file.sync_all());
    synced.map_err(file_error(copy, "sync"))
}

/// Creates an empty file with the permissions of the database.
fn make_partial(database: &Path, modes: &Modes) -> Result<PathBuf, Error> {
    let suffix = format!("{OF_DATABASE}{PARTIAL}");
    let (path, file) = with_free_name(database, &suffix, |path| File::create_new(path))?;
    if let Some(mode) = &modes.database {
        let set = file.set_permissions(mode.clone());
        set.map_err(file_error(&path, "make"))?;
    }
    Ok(path)
}

/// Gives a complete copy a free name.
fn name_copy(partial: &Path, database: &Path, purpose: Purpose) -> Result<PathBuf, Error> {
    let suffix = match purpose {
        Purpose::Database => OF_DATABASE,
        Purpose::Wal => OF_WAL,
    };
    let named = with_free_name(database, suffix, |path| give_name(partial, path));
    named.map(|(path, ())| path)
}

/// Creates the directory again if it was removed too.
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

/// A path as a value for SQLite, whatever its bytes.
pub(super) fn path_as_text(path: &Path) -> ToSqlOutput<'_> {
    #[cfg(unix)]
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
    #[cfg(not(unix))]
    let bytes = path.as_os_str().as_encoded_bytes();
    ToSqlOutput::Borrowed(ValueRef::Text(bytes))
}
