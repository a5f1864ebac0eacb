//! The access log: one line of JSON for each request.
//!
//! Requests put their lines into a bounded queue and never wait. A thread writes them; if it cannot keep up, or
//! cannot write, lines are dropped and counted.

mod line;
mod queue;
mod target;
mod writer;

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::Error;

pub(crate) use line::{Line, RequestLine};
pub(crate) use queue::LineCounts;

use queue::{Message, State};
use target::Target;
use writer::Writer;

/// The most lines that wait to be written: those of 160 ms at 100,000 requests per second, in about 3 MB; at most
/// 20 MB if all of them have the longest method and path.
const MAX_QUEUED_LINES: usize = 16 * 1024;

/// The pause after which a full queue is tried again at the close.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Writes a line of JSON for each request to a file, which it may reopen, or to a writer. Its clones share it.
///
/// A line has the time at which the request began, the id of the request, the address of the client, its name if the
/// server has an authorizer, the method, the path without the query, the status, the bytes of the body that were
/// received, and the seconds until the response. It has no key, no event and no token.
#[derive(Clone)]
pub struct AccessLog(Arc<Shared>);

struct Shared {
    queue: SyncSender<Message>,
    /// `None` for a writer.
    path: Option<PathBuf>,
    state: Arc<State>,
}

impl AccessLog {
    /// A log that is appended to a file, which is created if it does not exist. Blocks.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, or belongs to a store, or the thread cannot be started.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::start(Target::open(path.as_ref())?)
    }

    /// A log that is written to `output`, in whole lines, by a thread of its own.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn to_writer(output: impl Write + Send + 'static) -> Result<Self, Error> {
        Self::start(Target::writer(output))
    }

    /// Checks that [`open`](Self::open) would succeed, without creating the file. Blocks.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn check(path: impl AsRef<Path>) -> Result<(), Error> {
        Target::check(path.as_ref())
    }

    fn start(target: Target) -> Result<Self, Error> {
        let (queue, receiver) = sync_channel(MAX_QUEUED_LINES);
        let state = Arc::<State>::default();
        let path = target.path().map(Path::to_owned);
        let writer = Writer::new(target, receiver, Arc::clone(&state));
        let thread = thread::Builder::new().name("access-log".to_owned());
        let spawned = thread.spawn(move || writer.run());
        spawned.map_err(|source| Error::Thread {
            path: path.clone().unwrap_or_else(|| "the access log".into()),
            source,
        })?;
        Ok(Self(Arc::new(Shared { queue, path, state })))
    }

    /// Whether it is a file, which can be reopened.
    pub(crate) fn is_file(&self) -> bool {
        self.0.path.is_some()
    }

    /// Opens the file again by its path, as after it was renamed. If that fails, the old file stays in use. Blocks until
    /// the lines so far are written to the old one, and those from now on go to the new one.
    pub(crate) fn reopen(&self) -> Result<(), Error> {
        if let Some(path) = &self.0.path {
            let file = target::open_file(path)?;
            let (sender, reopened) = oneshot::channel();
            let sent = self.0.queue.send(Message::Reopen(file, sender));
            // An error of either is that the thread has ended.
            if sent.is_ok() {
                let _ = reopened.blocking_recv();
            }
        }
        Ok(())
    }

    /// Queues a line, or drops it.
    pub(crate) fn push(&self, line: Line) {
        match self.0.queue.try_send(Message::Line(Box::new(line))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                let State {
                    is_dropping,
                    counts,
                    ..
                } = &*self.0.state;
                counts.queue_full.increment();
                if !is_dropping.swap(true, Ordering::SeqCst) {
                    tracing::warn!(
                        lines = MAX_QUEUED_LINES,
                        "the queue of the access log is full: lines are dropped"
                    );
                }
            }
        }
    }

    /// Completes once the lines so far are written or dropped.
    pub(crate) async fn flush(&self) {
        let (sender, written) = oneshot::channel();
        let mut message = Message::Flush(sender);
        loop {
            message = match self.0.queue.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Full(message)) => message,
                Err(TrySendError::Disconnected(_)) => return,
            };
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        // The error is that the thread has ended.
        let _ = written.await;
    }

    /// The numbers of lines.
    #[cfg_attr(
        not(feature = "admin"),
        expect(dead_code, reason = "without the feature, no code reads the numbers")
    )]
    pub(crate) fn counts(&self) -> &LineCounts {
        &self.0.state.counts
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AccessLog")
            .field("path", &self.0.path)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{self, Write};
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::time::{Duration, SystemTime};

    use super::{AccessLog, Line, MAX_QUEUED_LINES};
    use crate::util::request_id::RequestId;

    /// Waits for the test before each write, and then fails every second one after some bytes.
    struct Slow {
        go_on: Receiver<()>,
        is_failing: bool,
        written: Vec<u8>,
        result: std::sync::mpsc::Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.go_on.recv();
            self.is_failing = !self.is_failing;
            if !self.is_failing {
                return Err(io::ErrorKind::StorageFull.into());
            }
            // Ends within a line.
            let count = (bytes.len() / 2).max(1);
            self.written.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Drop for Slow {
        fn drop(&mut self) {
            let _ = self.result.send(std::mem::take(&mut self.written));
        }
    }

    fn line() -> Line {
        Line {
            time: SystemTime::now(),
            request_id: RequestId::random(),
            address: None,
            client: None,
            request: None,
            status: Some(201),
            body_bytes: 0,
            duration: Duration::ZERO,
        }
    }

    #[test]
    fn lines_beyond_the_queue_are_dropped_and_all_are_counted() {
        let (go_on, wait) = sync_channel(0);
        let (result, written) = std::sync::mpsc::channel();
        let log = AccessLog::to_writer(Slow {
            go_on: wait,
            is_failing: false,
            written: Vec::new(),
            result,
        });
        let log = log.expect("starts");
        // The thread holds at most a batch; no push waits for it.
        let pushed = 4 * MAX_QUEUED_LINES as u64;
        for _ in 0..pushed {
            log.push(line());
        }
        assert!(log.counts().queue_full.get() > 0);
        // From here on no write waits.
        drop(go_on);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.expect("is built").block_on(log.flush());
        let counts = log.counts();
        let (full, failed) = (counts.queue_full.get(), counts.write_failed.get());
        assert!(failed > 0);
        assert_eq!(counts.written.get() + full + failed, pushed);
        let whole = counts.written.get();
        drop(log);
        let written = written.recv().expect("ends");
        let lines = written.split(|byte| *byte == b'\n');
        let is_whole = |line: &&[u8]| serde_json::from_slice::<serde_json::Value>(line).is_ok();
        assert_eq!(lines.filter(is_whole).count() as u64, whole);
    }

    #[test]
    fn lines_before_reopening_are_in_the_old_file_and_later_ones_in_the_new() {
        let directory = tempfile::tempdir().expect("makes a directory");
        let (path, old) = (directory.path().join("log"), directory.path().join("log.1"));
        fs::write(&path, "torn").expect("writes");
        let log = AccessLog::open(&path).expect("opens");
        for round in 1..=3 {
            log.push(line());
            fs::rename(&path, &old).expect("renames");
            log.reopen().expect("opens");
            let lines = fs::read_to_string(&old).expect("reads");
            let torn = usize::from(round == 1);
            assert_eq!(lines.lines().count(), 1 + torn, "{lines}");
            assert!(torn == 0 || lines.starts_with("torn\n{"), "{lines}");
            assert_eq!(fs::read(&path).expect("reads"), b"");
        }
    }
}
