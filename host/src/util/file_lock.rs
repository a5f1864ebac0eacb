//! Checks whether another process has locked a file, by `flock` or by `fcntl`.

use std::fs::{File, TryLockError};

/// Whether another process has locked a file, or a part of it. Closing any descriptor of a file releases
/// the `fcntl` locks of this process, so this must not be used for a file that SQLite may have open.
pub(crate) fn is_locked(file: &File) -> bool {
    let is_taken = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    is_taken || has_fcntl_lock(file)
}

/// Whether another process has a lock of `fcntl` or `lockf` on a file, which is independent of those of
/// `flock`.
#[cfg(unix)]
pub(crate) fn has_fcntl_lock(file: &File) -> bool {
    use rustix::process::{Flock, FlockType, fcntl_getlk};

    // Any lock that would keep this process from locking the whole file.
    let wanted = Flock::from(FlockType::WriteLock);
    fcntl_getlk(file, &wanted).is_ok_and(|found| found.is_some())
}

/// Other systems have one kind of lock only.
#[cfg(not(unix))]
pub(crate) fn has_fcntl_lock(_: &File) -> bool {
    false
}
