//! The end of a file that is appended to, by which it is known again, and how it may be displaced.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};

#[cfg(unix)]
use crate::store::is_hidden;

/// How many of the last bytes of a file are compared with what was written there: those of some puts, which
/// another file does not have at the same place by chance.
const COMPARED_BYTES: u64 = 4096;

/// A file up to the end of the last line that was acknowledged, or that it had at the start.
#[derive(Debug)]
pub(super) struct Acknowledged {
    /// In bytes.
    pub(super) length: u64,
    /// The last bytes before that.
    tail: Vec<u8>,
}

/// What became of a file that is open.
#[derive(Debug, thiserror::Error)]
pub(super) enum Displacement {
    #[error("it was removed: reload (SIGHUP) or restart the server to begin a new file")]
    Removed,
    #[error(
        "it was moved, or its directory was: move it back, or reload (SIGHUP) or restart the server to begin a new file"
    )]
    Moved,
    #[error(
        "another file is at its path: move the first one back, or reload (SIGHUP) or restart the server to write to the other"
    )]
    Replaced,
    #[error(
        "it was truncated from {from} to {to} bytes, and has lost acknowledged events: restore it, or restart the server"
    )]
    Truncated { from: u64, to: u64 },
    #[error(
        "it was overwritten, and has lost acknowledged events: restore it, or restart the server"
    )]
    Overwritten,
    #[error("its path can't be looked up: {0}")]
    Hidden(io::Error),
}

impl Displacement {
    /// Whether the file is where another program has put it, as one that rotates files does.
    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Moved | Self::Replaced)
    }
}

impl Acknowledged {
    /// What a file has.
    pub(super) fn read(file: &mut File) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        let tail = read_before(file, length, length.min(COMPARED_BYTES))?;
        Ok(Self { length, tail })
    }

    /// What a file has up to `length`, the last of which is `written`.
    pub(super) fn of(mut written: Vec<u8>, length: u64) -> Self {
        let compared = usize::try_from(COMPARED_BYTES).unwrap_or(usize::MAX);
        let tail = written.split_off(written.len().saturating_sub(compared));
        Self { length, tail }
    }

    pub(super) fn is_torn(&self) -> bool {
        self.tail.last().is_some_and(|last| *last != b'\n')
    }

    /// Whether a file that is long enough has the last bytes where they have to be.
    pub(super) fn is_in(&self, file: &File) -> io::Result<bool> {
        match read_before(file, self.length, self.tail.len() as u64) {
            Ok(bytes) => Ok(bytes == self.tail),
            // It became shorter just now.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The bytes of a file before `end`.
fn read_before(mut file: &File, end: u64, count: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(end.saturating_sub(count)))?;
    let mut bytes = vec![0; usize::try_from(count).unwrap_or(usize::MAX)];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(unix)]
pub(super) fn check_identity(
    file: &File,
    open: &Metadata,
    at_path: io::Result<Metadata>,
) -> Result<(), Displacement> {
    use std::os::unix::fs::MetadataExt as _;

    if open.nlink() == 0 {
        return Err(Displacement::Removed);
    }
    match at_path {
        Ok(other) if (other.dev(), other.ino()) == (open.dev(), open.ino()) => Ok(()),
        // Its last name is one that the file system made up.
        Ok(_) if is_hidden(file) => Err(Displacement::Removed),
        Ok(_) => Err(Displacement::Replaced),
        Err(error) if error.kind() == ErrorKind::NotFound && is_hidden(file) => {
            Err(Displacement::Removed)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Displacement::Moved),
        Err(error) => Err(Displacement::Hidden(error)),
    }
}

/// Elsewhere files have no identity that could be compared.
#[cfg(not(unix))]
pub(super) fn check_identity(
    _file: &File,
    _open: &Metadata,
    at_path: io::Result<Metadata>,
) -> Result<(), Displacement> {
    match at_path {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Displacement::Moved),
        Err(error) => Err(Displacement::Hidden(error)),
    }
}
