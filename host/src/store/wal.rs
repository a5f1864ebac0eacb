//! Syncs the WAL that a previous process left.
//!
//! Frames of a WAL may be in the page cache only: the writer was killed before its sync, or the sync failed,
//! after which the system may mark pages clean that it could not write. SQLite reads such frames as
//! committed, and syncs nothing when it opens the WAL. So before anything in such a WAL is acknowledged,
//! all of it is written once more and synced.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The size in bytes of what is written at a time.
const STEP_BYTES: usize = 256 * 1024;

/// Writes the WAL of a store again, byte for byte, and syncs it. The caller holds SQLite's write lock.
pub(super) fn rewrite_and_sync(store: &Path) -> Result<(), Error> {
    let wal = path_of_wal(store).map_err(|source| Error::File {
        operation: "find",
        path: store.to_owned(),
        source,
    })?;
    match rewrite_file(&wal) {
        // The first write creates it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|source| Error::File {
            operation: "sync",
            path: wal,
            source,
        }),
    }
}

/// Beside the file itself, where a link leads to it.
fn path_of_wal(store: &Path) -> io::Result<PathBuf> {
    let mut path: OsString = fs::canonicalize(store)?.into();
    path.push("-wal");
    Ok(path.into())
}

fn rewrite_file(path: &Path) -> io::Result<()> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut bytes = vec![0; STEP_BYTES];
    let mut place = 0;
    loop {
        let length = file.read(&mut bytes)?;
        if length == 0 {
            break;
        }
        file.seek(SeekFrom::Start(place))?;
        file.write_all(&bytes[..length])?;
        place += length as u64;
    }
    file.sync_data()
}
