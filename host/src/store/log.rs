//! Gets the write-ahead log that a store was left with onto the disk.
//!
//! What a log holds may be in the system's memory only: its writer was killed before its sync, or
//! the sync failed, after which the system may take for written what it could not write. SQLite
//! reads that as committed, and syncs nothing when the log is opened again. So whoever acknowledges
//! what stands in a log that another left has to write it once more. Never looks at what it says.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The size in bytes of what is written at a time.
const STEP_BYTES: usize = 256 * 1024;

/// Writes the log of a store again, byte for byte, and syncs it. The caller holds the lock under
/// which alone a log is written.
pub(super) fn write_again(store: &Path) -> Result<(), Error> {
    let log = path_of_log(store).map_err(|source| Error::File {
        operation: "find",
        path: store.to_owned(),
        source,
    })?;
    match write_file_again(&log) {
        // A log is made by the first who writes.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|source| Error::File {
            operation: "sync",
            path: log,
            source,
        }),
    }
}

/// Beside the file itself, where a link leads to it.
fn path_of_log(store: &Path) -> io::Result<PathBuf> {
    let mut path: OsString = fs::canonicalize(store)?.into();
    path.push("-wal");
    Ok(path.into())
}

fn write_file_again(path: &Path) -> io::Result<()> {
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
