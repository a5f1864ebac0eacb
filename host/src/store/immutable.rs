//! Reads a closed store without locks and without creating files (`immutable=1`).
//!
//! A closed store has no WAL. SQLite is told that the file does not change; readers check after each step that
//! it did not.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, OpenFlags};

use super::file_id::{FRESH, FileId, FileStamp};
use super::location::open_error;
use super::location::{may_be_opened, resolve_path};
use super::schema::open;
use super::side_files::{beside, bytes_in};
use crate::error::Error;

/// What stands in the path of a URI as something else than itself.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_');

/// A connection for reading.
#[derive(Debug)]
pub(super) struct ReadConnection {
    pub(super) connection: Connection,
    /// The state of the database file, if it is read without locks.
    immutable: Option<ImmutableFile>,
}

/// The state of a database without a WAL or journal.
#[derive(Debug, PartialEq, Eq)]
struct ImmutableFile {
    id: FileId,
    stamp: FileStamp,
    changed: i128,
}

impl ReadConnection {
    /// Opens a store to be read.
    pub(super) fn at(path: &Path) -> Result<Self, Error> {
        let mut immutable = ImmutableFile::at(path);
        if immutable
            .as_ref()
            .is_some_and(|immutable| immutable.stamp.is_fresh())
        {
            thread::sleep(FRESH);
            immutable = ImmutableFile::at(path);
        }
        let connection = match &immutable {
            Some(_) => open_immutable(path),
            None => open_shared(path),
        };
        Ok(Self {
            connection: connection?,
            immutable,
        })
    }

    /// Whether what was read is what stood there, and stands there still.
    pub(super) fn holds(&self, path: &Path) -> bool {
        self.immutable.is_none() || self.immutable == ImmutableFile::at(path)
    }
}

impl ImmutableFile {
    /// `None` where SQLite would read more than the database.
    fn at(path: &Path) -> Option<Self> {
        let database = fs::canonicalize(path).ok()?;
        let before = Self::of(&database)?;
        let is_alone = ["-wal", "-journal"]
            .iter()
            .all(|suffix| bytes_in(&beside(&database, suffix)) == 0);
        is_alone.then_some(before)
    }

    fn of(database: &Path) -> Option<Self> {
        let found = fs::metadata(database).ok()?;
        #[cfg(unix)]
        let changed = {
            use std::os::unix::fs::MetadataExt as _;
            i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec())
        };
        #[cfg(not(unix))]
        let changed = 0;
        Some(Self {
            id: FileId::of(&found),
            stamp: FileStamp::of(&found),
            changed,
        })
    }
}

/// Opens a database of which SQLite is told that nobody changes it: it takes no locks, and makes no
/// files.
pub(super) fn open_immutable(path: &Path) -> Result<Connection, Error> {
    let database = resolve_path(path)?;
    #[cfg(unix)]
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(database.as_os_str());
    #[cfg(not(unix))]
    let bytes = database.as_os_str().as_encoded_bytes();
    let uri = format!("file:{}?immutable=1", percent_encode(bytes, ENCODED));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(uri, flags).map_err(|error| open_error(path, error))
}

/// Opens a store that others may have open. A WAL that its writer left has to be recovered first,
/// which makes a file: whoever does that must not keep the writer out.
fn open_shared(path: &Path) -> Result<Connection, Error> {
    let database = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let wal = beside(&database, "-wal");
    let has_shm = beside(&database, "-shm").exists();
    let refuse = |reason: String| Error::StoreFormat {
        path: path.to_owned(),
        reason: format!("{} has still to be recovered, {reason}", wal.display()),
    };
    // SQLite would delete the WAL.
    if bytes_in(&database) == 0 {
        return Err(refuse("and the database is empty".to_owned()));
    }
    if bytes_in(&wal) > 0 && !has_shm {
        if !is_ours(&database) {
            let reason = "which only its owner may do: start the server, or read it as that user";
            return Err(refuse(reason.to_owned()));
        }
        if let Err(error) = may_be_opened(&database) {
            return Err(refuse(format!("which can't be done here: {error}")));
        }
    }
    open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

/// Whether files that this process makes beside another are its owner's: SQLite gives those that
/// root makes to the owner.
fn is_ours(database: &PathBuf) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let user = rustix::process::geteuid();
        user.is_root() || fs::metadata(database).is_ok_and(|found| found.uid() == user.as_raw())
    }
    #[cfg(not(unix))]
    {
        let _ = database;
        true
    }
}
