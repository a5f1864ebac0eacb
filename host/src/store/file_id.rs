//! Which file is at a path, and whether it was changed.
//!
//! Never opens a file.

use std::fs::{self, File, Metadata};
use std::io;
#[cfg(windows)]
use std::io::ErrorKind;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::time::UNIX_EPOCH;
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
    id_and_bytes(path).ok().map(|(id, _)| id)
}

/// The file at a path where SQLite follows no link, and its size.
///
/// Does not read when the file was modified, unlike the standard library: since Linux 6.13 that would have the next
/// write set a new time, which ext4 then commits to its journal with each sync.
pub(super) fn id_and_bytes(path: &Path) -> io::Result<(FileId, u64)> {
    #[cfg(target_os = "linux")]
    if let Some(found) = id_and_bytes_without_times(path) {
        return Ok(found);
    }
    let found = fs::symlink_metadata(path)?;
    Ok((FileId::of(&found), found.len()))
}

/// `None` where the system does not tell it in this way; whoever asks then learns why.
#[cfg(target_os = "linux")]
fn id_and_bytes_without_times(path: &Path) -> Option<(FileId, u64)> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};

    let needed = StatxFlags::INO | StatxFlags::SIZE;
    let asked = needed | StatxFlags::BTIME;
    let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, asked).ok()?;
    let told = StatxFlags::from_bits_retain(found.stx_mask);
    let created = || {
        let seconds = u64::try_from(found.stx_btime.tv_sec).ok()?;
        UNIX_EPOCH.checked_add(Duration::new(seconds, found.stx_btime.tv_nsec))
    };
    let id = FileId {
        device: makedev(found.stx_dev_major, found.stx_dev_minor),
        inode: found.stx_ino,
        created: told.contains(StatxFlags::BTIME).then(created).flatten(),
    };
    told.contains(needed).then_some((id, found.stx_size))
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{FileId, id_and_bytes};

    #[test]
    fn file_is_that_of_its_metadata() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        fs::write(&path, "12345").expect("writes");
        let metadata = fs::symlink_metadata(&path).expect("is there");
        let (id, bytes) = id_and_bytes(&path).expect("is there");
        assert_eq!((id, bytes), (FileId::of(&metadata), 5));
        fs::remove_file(&path).expect("removes");
        let error = id_and_bytes(&path).expect_err("is gone");
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn file_is_found_without_its_times() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(super::id_and_bytes_without_times(directory.path()).is_some());
    }
}
