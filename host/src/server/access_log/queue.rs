//! The messages to the thread of an access log, and the state that it shares with requests.

use std::fs::File;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::metrics::Counter;
use crate::server::access_log::line::Line;

/// The state that requests and the thread share.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Takes the place of the file in use.
    new_file: Mutex<Option<File>>,
    /// Whether lines were dropped since the thread has last logged their number.
    pub(super) is_dropping: AtomicBool,
    pub(super) counts: LineCounts,
}

impl State {
    pub(super) fn set_new_file(&self, file: File) {
        *self.new_file() = Some(file);
    }

    pub(super) fn take_new_file(&self) -> Option<File> {
        self.new_file().take()
    }

    /// The value is replaced as a whole, so a poisoned lock is still good.
    fn new_file(&self) -> MutexGuard<'_, Option<File>> {
        self.new_file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The numbers of lines.
#[derive(Debug, Default)]
pub(crate) struct LineCounts {
    pub(crate) written: Counter,
    /// Dropped because the queue was full.
    pub(crate) queue_full: Counter,
    /// Dropped because they could not be written.
    pub(crate) write_failed: Counter,
}

pub(super) enum Message {
    Line(Box<Line>),
    /// Only wakes the thread.
    Wake,
    /// Asks for a reply once the lines before it are written.
    Flush(oneshot::Sender<()>),
}
