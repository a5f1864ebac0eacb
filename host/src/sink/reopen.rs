//! Reopening the file of a sink on request, as after log rotation, and reading files that its connections need again.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Error;

/// A sink with a file that can be reopened, or files that can be read again.
pub(crate) trait Reopen: Send + Sync {
    /// Begins a new file if the old one was moved away, or reads files again. Blocks until that is done.
    fn reopen(&self) -> Result<(), Error>;

    /// Whether files have changed since the last call, so that they are read again without a request.
    fn has_changed(&self) -> bool {
        false
    }

    /// The line of the log after a success.
    fn done(&self) -> &'static str {
        "the file of the sink is at its path"
    }

    /// The begin of the line of the log after a failure.
    fn failed(&self) -> &'static str {
        "the file of the sink is not reopened"
    }
}

/// A request to reopen, which a writer may wait for.
#[derive(Debug, Default)]
pub(crate) struct ReopenRequest {
    is_pending: Mutex<bool>,
    changed: Condvar,
}

impl ReopenRequest {
    pub(crate) fn make(&self) {
        *self.lock() = true;
        self.changed.notify_all();
    }

    /// The writer reopens now.
    pub(crate) fn clear(&self) {
        *self.lock() = false;
    }

    /// Waits for a request for at most this long, and returns whether there is one.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let wait = self
            .changed
            .wait_timeout_while(self.lock(), time, |is_pending| !*is_pending);
        let (is_pending, _) = wait.unwrap_or_else(PoisonError::into_inner);
        *is_pending
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.is_pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
