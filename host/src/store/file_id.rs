//! Which file is at a path, and whether it was changed.
//!
//! Never opens a file.

use std::fs::{self, File, Metadata};
use std::io;
#[cfg(windows)]
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Which file it is, whatever its name. The system may give the number of a file that was removed to
/// a new one, which was made at another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    pub(super) inode: u64,
    created: Option<SystemTime>,
}

impl FileId {
    pub(super) fn of(found: &Metadata) -> Self {
        #[cfg(unix)]
        let (device, inode) = {
            use std::os::unix::fs::MetadataExt as _;
            (found.dev(), found.ino())
        };
        // A system that does not let open files be moved or removed.
        #[cfg(not(unix))]
        let (device, inode) = (0, 0);
        Self {
            device,
            inode,
            created: found.created().ok(),
        }
    }
}

/// The number of names that a file has.
pub(super) fn links(found: &Metadata) -> u64 {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::nlink(found);
    #[cfg(not(unix))]
    return u64::from(found.is_file());
}

/// Size and time of a database, which only a checkpoint changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStamp {
    pub(super) bytes: u64,
    modified: Option<SystemTime>,
}

/// How long after a change another one may leave the same time: some ticks of the system's clock.
pub(super) const FRESH: Duration = Duration::from_millis(30);

impl FileStamp {
    /// Whether the next change may not show.
    pub(super) fn is_fresh(self) -> bool {
        let age = self.modified.and_then(|modified| modified.elapsed().ok());
        age.is_some_and(|age| age < FRESH)
    }

    pub(super) fn of(found: &Metadata) -> Self {
        Self {
            bytes: found.len(),
            modified: found.modified().ok(),
        }
    }
}

/// The file at a path where SQLite follows no link, if there is one.
pub(super) fn id_at(path: &Path) -> Option<FileId> {
    fs::symlink_metadata(path)
        .ok()
        .map(|found| FileId::of(&found))
}

#[cfg(unix)]
pub(super) fn read_at(file: &File, bytes: &mut [u8], place: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, place)
}

#[cfg(windows)]
pub(super) fn read_at(file: &File, bytes: &mut [u8], place: u64) -> io::Result<()> {
    match std::os::windows::fs::FileExt::seek_read(file, bytes, place)? {
        read if read == bytes.len() => Ok(()),
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
}
