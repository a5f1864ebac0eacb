//! The messages to the thread of an access log, and the state that it shares with requests.

use std::fs::File;
use std::sync::atomic::AtomicBool;

use tokio::sync::oneshot;

use crate::metrics::Counter;
use crate::server::access_log::line::Line;

/// The state that requests and the thread share.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Whether lines were dropped since the thread has last logged their number.
    pub(super) is_dropping: AtomicBool,
    pub(super) counts: LineCounts,
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
    /// Takes the place of the file in use, for the lines after this. Asks for a reply once it has.
    Reopen(File, oneshot::Sender<()>),
    /// Asks for a reply once the lines before it are written.
    Flush(oneshot::Sender<()>),
}
