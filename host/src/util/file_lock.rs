//! Whether other programs have a file locked, by either kind of lock that systems have.

use std::fs::{File, TryLockError};

/// Whether another process has locked a file, or a part of it. Closing any descriptor of a file gives up the
/// locks of `fcntl` that this process has on it: this is not for a file that SQLite may have open.
pub(crate) fn is_locked(file: &File) -> bool {
    let is_taken = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    is_taken || has_fcntl_lock(file)
}

/// Whether another process has a lock of `fcntl` or `lockf` on a file, which those of `flock` do not meet.
#[cfg(unix)]
pub(crate) fn has_fcntl_lock(file: &File) -> bool {
    use rustix::process::{Flock, FlockType, fcntl_getlk};

    // What would keep this process from locking all of it.
    let wanted = Flock::from(FlockType::WriteLock);
    fcntl_getlk(file, &wanted).is_ok_and(|found| found.is_some())
}

/// Elsewhere there is one kind.
#[cfg(not(unix))]
pub(crate) fn has_fcntl_lock(_: &File) -> bool {
    false
}
