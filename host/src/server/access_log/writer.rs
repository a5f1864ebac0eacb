//! The thread that writes the access log.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::field::display;

use crate::server::access_log::queue::{Message, State};
use crate::server::access_log::target::Target;
use crate::util::log_limiter::LogLimiter;

/// How long the lines of a batch are collected. Without the pause, most requests would wake the thread, which is a
/// system call.
const BATCH_PAUSE: Duration = Duration::from_millis(20);

/// The size in bytes from which a batch is written before more lines are added to it.
const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// Writes the lines of a queue until its log is dropped.
pub(super) struct Writer {
    target: Target,
    queue: Receiver<Message>,
    state: Arc<State>,
    batch: Vec<u8>,
    /// Whether the last line was written in part.
    is_torn: bool,
    /// The lines that could not be written since the last write that succeeded.
    failed: u64,
    /// The number of lines that did not fit into the queue, as it was logged last.
    reported_dropped: u64,
    failing: LogLimiter,
}

impl Writer {
    pub(super) fn new(target: Target, queue: Receiver<Message>, state: Arc<State>) -> Self {
        Self {
            // Here, since the file may be moved once the thread runs.
            is_torn: target.is_torn(),
            target,
            queue,
            state,
            batch: Vec::new(),
            failed: 0,
            reported_dropped: 0,
            failing: LogLimiter::default(),
        }
    }

    pub(super) fn run(mut self) {
        let mut has_more = false;
        while let Ok(first) = self.queue.recv() {
            if matches!(first, Message::Line(_)) && !has_more {
                thread::park_timeout(BATCH_PAUSE);
            }
            let mut flushed = Vec::new();
            self.add(first, &mut flushed);
            has_more = false;
            while let Ok(message) = self.queue.try_recv() {
                self.add(message, &mut flushed);
                // A queue that is never empty must not keep the thread here.
                if self.batch.len() >= MAX_BATCH_BYTES {
                    has_more = true;
                    break;
                }
            }
            self.write();
            self.report_dropped();
            for flushed in flushed {
                // Nobody may wait for it any more.
                let _ = flushed.send(());
            }
        }
    }

    fn add(&mut self, message: Message, flushed: &mut Vec<oneshot::Sender<()>>) {
        match message {
            Message::Line(line) => line.write_to(&mut self.batch),
            Message::Reopen(file, sender) => {
                // The lines of the batch are of the time before.
                self.write();
                self.target.set_file(file);
                self.is_torn = self.target.is_torn();
                let _ = sender.send(());
            }
            Message::Flush(sender) => flushed.push(sender),
        }
    }

    fn write(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.is_torn {
            self.batch.insert(0, b'\n');
        }
        let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        let torn = u64::from(self.is_torn);
        let counts = &self.state.counts;
        match self.target.write_all(&self.batch) {
            Ok(()) => {
                self.is_torn = false;
                counts.written.add(lines(&self.batch) - torn);
                let failed = std::mem::take(&mut self.failed);
                if failed > 0 {
                    tracing::info!(failed, "the access log is written again");
                }
            }
            Err((written, error)) => {
                let (before, after) = self.batch.split_at(written);
                self.is_torn = match before.last() {
                    Some(last) => *last != b'\n',
                    None => self.is_torn,
                };
                let failed = lines(after) - if written == 0 { torn } else { 0 };
                counts.written.add(lines(before).saturating_sub(torn));
                counts.write_failed.add(failed);
                self.failed += failed;
                if let Some(suppressed) = self.failing.check(&error.to_string()) {
                    let path = self.target.path().map(|path| display(path.display()));
                    let failed = self.failed;
                    tracing::error!(path, %error, failed, suppressed, "cannot write the access log: lines are dropped");
                }
            }
        }
        self.batch.clear();
    }

    /// Logs how many lines did not fit into the queue, once there is room again.
    fn report_dropped(&mut self) {
        if !self.state.is_dropping.swap(false, Ordering::SeqCst) {
            return;
        }
        let total = self.state.counts.queue_full.get();
        let dropped = total - self.reported_dropped;
        self.reported_dropped = total;
        tracing::warn!(
            dropped,
            total,
            "lines of the access log were dropped: its queue was full"
        );
    }
}
