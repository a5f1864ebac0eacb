//! Recognizes the files of SQLite databases, so that no sink or output writes into them.
//!
//! A descriptor of a file that belongs to a database is never closed: closing it would release the locks that
//! SQLite may have on the file in this process.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::util::file_lock;

/// What a database begins with.
const DATABASE_MAGIC: &[u8] = b"SQLite format 3\0";

/// What a write-ahead log begins with, by the byte order of its checksums.
const WAL_MAGICS: [&[u8]; 2] = [&[0x37, 0x7f, 0x06, 0x82], &[0x37, 0x7f, 0x06, 0x83]];

/// What a rollback journal begins with.
const JOURNAL_MAGIC: &[u8] = &[0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// The version that shared memory begins with, in the byte order of the machine.
const SHARED_MEMORY_VERSION: u32 = 3_007_000;

/// The most links that are followed, as on Linux.
const MAX_LINKS: u32 = 40;

/// What files beside a database are, by the end of their names.
const SIDE_FILES: [(&str, &str); 3] = [
    ("-wal", "the write-ahead log of a SQLite database"),
    ("-shm", "the shared memory of a SQLite database"),
    ("-journal", "the journal of a SQLite database"),
];

/// Where a write to `path` goes, with links followed, also those that lead to nothing.
///
/// # Errors
///
/// When that is a SQLite database or a file that belongs to one, under whatever name, or can't be
/// looked at.
pub fn writable_target(path: &Path) -> Result<PathBuf, Error> {
    let fail = |source| Error::File {
        operation: "write",
        path: path.to_owned(),
        source,
    };
    let target = follow_links(path).map_err(fail)?;
    match role(path, &target).map_err(fail)? {
        Some(role) => Err(refused(path, role)),
        None => Ok(target),
    }
}

/// What a file is to a SQLite database, by what it begins with; `None` where it belongs to none.
///
/// # Errors
///
/// When it can't be read.
pub fn database_role(path: &Path) -> Result<Option<&'static str>, Error> {
    role_by_content(path).map_err(|source| Error::File {
        operation: "read",
        path: path.to_owned(),
        source,
    })
}

/// Holds that a file that is to be appended to belongs to no database, under none of its names.
pub(crate) fn check_appendable(path: &Path) -> Result<(), Error> {
    writable_target(path)?;
    // A WAL may be empty, and is not recognized then.
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0 && names(&metadata) > 1) {
        return Err(refused(path, "an empty file of several names"));
    }
    Ok(())
}

/// Holds that a store is not opened, or made, in the place of a file that belongs to another one
/// or that another program has locked while it is still empty.
pub(crate) fn check_store_path(path: &Path) -> Result<(), Error> {
    let fail = |source| Error::File {
        operation: "open",
        path: path.to_owned(),
        source,
    };
    // What can't be found is told by SQLite.
    let Ok(target) = follow_links(path) else {
        return Ok(());
    };
    if let Some(role) = role_by_name(&target).map_err(fail)? {
        return Err(refused(path, role));
    }
    let is_empty_file = |metadata: &fs::Metadata| metadata.is_file() && metadata.len() == 0;
    if !fs::metadata(&target).is_ok_and(|metadata| is_empty_file(&metadata)) {
        return Ok(());
    }
    match is_locked_by_another(&target) {
        true => Err(refused(path, "a file that another program has locked")),
        false => Ok(()),
    }
}

/// Whether another program has a file locked that is no database.
#[must_use]
pub fn is_locked_by_another(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file_lock::is_locked(&file))
}

fn refused(path: &Path, role: &'static str) -> Error {
    Error::ForeignFile {
        path: path.to_owned(),
        role,
    }
}

/// What a file is to a database.
fn role(path: &Path, target: &Path) -> io::Result<Option<&'static str>> {
    if let Some(role) = role_by_name(target)? {
        return Ok(Some(role));
    }
    // By the path as it was given: that of a descriptor leads to the file also where it has no name.
    if let Some(role) = role_by_content(path)? {
        return Ok(Some(role));
    }
    // A database that was moved or emptied while its WAL is still there.
    let wal = beside(target, "-wal");
    let journal = beside(target, "-journal");
    let has_wal = role_by_content(&wal)?.is_some() || role_by_content(&journal)?.is_some();
    Ok(has_wal.then_some("the path of a SQLite database, whose WAL is beside it"))
}

/// What a file beside a database is, whatever is in it and whether or not it is there.
fn role_by_name(target: &Path) -> io::Result<Option<&'static str>> {
    for (suffix, role) in SIDE_FILES {
        let Some(name) = target.file_name() else {
            return Ok(None);
        };
        if let Some(database) = strip_suffix(name, suffix)
            && role_by_content(&target.with_file_name(database))?.is_some()
        {
            return Ok(Some(role));
        }
    }
    Ok(None)
}

/// What a file is by its first bytes.
fn role_by_content(path: &Path) -> io::Result<Option<&'static str>> {
    let is_file = fs::metadata(path).map(|metadata| metadata.is_file());
    match is_file {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut file = File::open(path)?;
    let mut head = Vec::with_capacity(DATABASE_MAGIC.len());
    (&mut file)
        .take(DATABASE_MAGIC.len() as u64)
        .read_to_end(&mut head)?;
    let [wal, shared_memory, journal] = SIDE_FILES.map(|(_, role)| role);
    let role = if head == DATABASE_MAGIC {
        "a SQLite database"
    } else if WAL_MAGICS.iter().any(|magic| head.starts_with(magic)) {
        wal
    } else if head.starts_with(JOURNAL_MAGIC) {
        journal
    } else if head.starts_with(&SHARED_MEMORY_VERSION.to_ne_bytes()) {
        shared_memory
    } else {
        return Ok(None);
    };
    // SQLite may have locks on it in this process.
    std::mem::forget(file);
    Ok(Some(role))
}

/// The path of what is at `path`, or would be if it were made.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::canonicalize(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => return result,
        }
        let name = path.file_name().ok_or(ErrorKind::NotFound)?;
        let target = fs::canonicalize(parent(&path))?.join(name);
        match fs::read_link(&target) {
            // A link that leads nowhere, relative to where it is.
            Ok(link) => path = parent(&target).join(link),
            Err(_) => return Ok(target),
        }
    }
    Err(ErrorKind::TooManyLinks.into())
}

/// The directory that a file is in.
fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    parent.unwrap_or(Path::new("."))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path: OsString = path.into();
    path.push(suffix);
    path.into()
}

#[cfg(unix)]
fn strip_suffix<'a>(name: &'a OsStr, suffix: &str) -> Option<&'a OsStr> {
    use std::os::unix::ffi::OsStrExt as _;
    name.as_bytes()
        .strip_suffix(suffix.as_bytes())
        .map(OsStr::from_bytes)
}

#[cfg(not(unix))]
fn strip_suffix<'a>(name: &'a OsStr, suffix: &str) -> Option<&'a OsStr> {
    name.to_str()?.strip_suffix(suffix).map(OsStr::new)
}

/// How many names a file has, as far as the system tells.
#[cfg(unix)]
fn names(metadata: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    if metadata.is_file() {
        metadata.nlink()
    } else {
        1
    }
}

#[cfg(not(unix))]
fn names(_: &fs::Metadata) -> u64 {
    1
}
