//! Tells when files have changed, by their metadata. A link is followed, so that a replaced one counts.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Files, and their state when they were last looked at.
#[derive(Debug)]
pub(crate) struct WatchedFiles {
    paths: Vec<PathBuf>,
    seen: Mutex<Vec<Option<Stamp>>>,
}

/// The state of a file; `None` in its place if it cannot be found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    /// Device, number and time of the last change of the inode.
    #[cfg(unix)]
    inode: (u64, u64, i64, i64),
}

impl WatchedFiles {
    /// To be called before the files are read, so that no change is missed.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        let seen = Mutex::new(stamps(&paths));
        Self { paths, seen }
    }

    /// Whether a file has changed since the last call, or since the beginning.
    pub(crate) fn have_changed(&self) -> bool {
        let now = stamps(&self.paths);
        // The value is replaced as a whole, so a poisoned lock is still good.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let have_changed = *seen != now;
        *seen = now;
        have_changed
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    paths.iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    #[cfg(unix)]
    use std::os::unix::fs::MetadataExt as _;

    let file = fs::metadata(path).ok()?;
    Some(Stamp {
        bytes: file.len(),
        modified: file.modified().ok(),
        #[cfg(unix)]
        inode: (file.dev(), file.ino(), file.ctime(), file.ctime_nsec()),
    })
}
