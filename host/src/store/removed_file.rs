//! Whether an open file was removed, also where the file system gives it another name until it is closed.
//!
//! NFS and FUSE do so: the name goes when the last who has the file open closes it.

use std::fs::File;
use std::io;
use std::path::Path;

use super::file_id::links;

/// What such names begin with.
#[cfg(target_os = "linux")]
const PREFIXES: [&str; 2] = [".nfs", ".fuse_hidden"];

/// Whether the name of an open file is one of those.
pub(crate) fn is_hidden(file: &File) -> bool {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd as _;
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let name = path.as_ref().ok().and_then(|path| path.file_name());
        let bytes = name.unwrap_or_default().as_encoded_bytes();
        let mut prefixes = PREFIXES.iter();
        prefixes.any(|prefix| bytes.starts_with(prefix.as_bytes()))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        false
    }
}

/// Whether an open file has no name, or one that it loses when it is closed.
pub(super) fn is_removed(file: &File) -> bool {
    file.metadata().is_ok_and(|found| links(&found) == 0) || is_hidden(file)
}

/// Keeps hold of a database's file without opening it, so that its closing gives up no locks.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(super) struct PathHandle(File);

#[cfg(target_os = "linux")]
impl PathHandle {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        use rustix::fs::{Mode, OFlags, open};
        let file = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self(file.into()))
    }

    pub(super) fn is_removed(&self) -> bool {
        is_removed(&self.0)
    }
}

/// Where nothing tells whether a file has still a name, it is taken to have none.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(super) struct PathHandle;

#[cfg(not(target_os = "linux"))]
impl PathHandle {
    #[expect(clippy::unnecessary_wraps, reason = "on Linux it may fail")]
    pub(super) fn open(_: &Path) -> io::Result<Self> {
        Ok(Self)
    }

    pub(super) fn is_removed(&self) -> bool {
        true
    }
}
