//! One thread that writes, many that wait for it: all puts that wait are one write.
//!
//! A put is answered only after its write is done. No timer holds back a lone put: while one
//! write runs, the next gathers. Never judges a put: that is the [`Writer`]'s.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

use tokio::sync::oneshot;

use crate::sink::PutError;
use crate::sink::reason::Reason;
use crate::sink::unavailable_reasons::UnavailableReasons;

/// The most puts of one write: enough that their share in it no longer counts.
const MAX_BATCH_PUTS: usize = 1024;

/// The size in bytes at which a write takes no further put: beyond it the disk's speed counts, not
/// the number of writes. One large event goes beyond it.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// The most puts that wait for a write, unless another number is set: twice what a server has in
/// flight at most, since those that timed out wait on.
pub const DEFAULT_MAX_QUEUED_PUTS: usize = 8192;

/// The size in bytes at which the queue takes no further put, unless another one is set: half a
/// second of a slow disk.
pub const DEFAULT_MAX_QUEUED_BYTES: usize = 64 * 1024 * 1024;

/// The most puts that a queue may be allowed to hold: their places alone take some 100 MB.
pub const MAX_QUEUED_PUTS: usize = 1_048_576;

/// After how many seconds a put may be tried again for which there was no place in the queue.
const QUEUE_RETRY_SECONDS: u32 = 1;

/// How much may wait for a write. A put for which there is no place is unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// The most puts, up to [`MAX_QUEUED_PUTS`].
    pub puts: usize,
    /// The size in bytes of their keys and events at which no further put is taken.
    pub bytes: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            puts: DEFAULT_MAX_QUEUED_PUTS,
            bytes: DEFAULT_MAX_QUEUED_BYTES,
        }
    }
}

/// What a put asks to write.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) key: String,
    pub(crate) event: String,
}

impl Record {
    fn bytes(&self) -> usize {
        self.key.len() + self.event.len()
    }
}

/// Writes batches of records.
pub(crate) trait Writer: Send + 'static {
    /// What is known of a record once it was written, or found to be there.
    type Written: Send + 'static;

    /// Writes `records` as durably as it ever does. Returns one result for each, in their order.
    fn write(&mut self, records: &[Record]) -> Vec<Result<Self::Written, PutError>>;

    /// Why the last write was unavailable, where it was.
    fn unavailable_reason(&self) -> Reason {
        Reason::StoreBusy
    }

    /// After how long without a put `idle` is called, and then again and again; never for `None`.
    fn idle_interval(&self) -> Option<Duration> {
        None
    }

    /// Looks after what it writes to while there is nothing to write.
    fn idle(&mut self) {}

    /// Looks for the last time at what it has written. Nothing is written after that.
    fn close(&mut self) -> Closed {
        Closed::Complete
    }
}

/// How a writer was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// All that it acknowledged is where it has to be, or in a copy.
    Complete,
    /// Acknowledged events may be lost.
    EventsLost,
}

/// The way to the writer's thread. Dropped, it waits until the thread has written what is queued
/// and has put its writer away.
pub(crate) struct GroupCommit<W: Writer> {
    /// `None` only while this is dropped.
    queue: Option<SyncSender<Job<W>>>,
    queued_bytes: Arc<AtomicUsize>,
    max_queued_bytes: usize,
    /// Why puts were unavailable.
    reasons: Arc<UnavailableReasons>,
    thread: Option<JoinHandle<Closed>>,
}

/// What became of a record, and why if that is that it was unavailable.
type Answered<T> = (Result<T, PutError>, Reason);

struct Job<W: Writer> {
    record: Record,
    reply: oneshot::Sender<Answered<W::Written>>,
}

impl<W: Writer> GroupCommit<W> {
    /// Starts the thread of `writer`.
    pub(crate) fn start(name: &str, limits: QueueLimits, writer: W) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(limits.puts.clamp(1, MAX_QUEUED_PUTS));
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&queued_bytes);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(writer, &jobs, &counter))?;
        Ok(Self {
            queue: Some(queue),
            queued_bytes,
            max_queued_bytes: limits.bytes,
            reasons: Arc::default(),
            thread: Some(thread),
        })
    }

    /// Where it is noted why puts were unavailable.
    pub(crate) fn unavailable_reasons(&self) -> Arc<UnavailableReasons> {
        Arc::clone(&self.reasons)
    }

    /// Has a record written, together with whatever else waits. Dropped before its end it is
    /// written all the same.
    pub(crate) async fn put(&self, record: Record) -> Result<W::Written, PutError> {
        let bytes = record.bytes();
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) >= self.max_queued_bytes {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(self.full(Reason::QueueBytesFull));
        }
        let (reply, written) = oneshot::channel();
        let sent = match &self.queue {
            Some(queue) => queue.try_send(Job { record, reply }),
            None => Err(TrySendError::Disconnected(Job { record, reply })),
        };
        if let Err(error) = sent {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(match error {
                TrySendError::Full(_) => self.full(Reason::QueueFull),
                TrySendError::Disconnected(_) => writer_gone(),
            });
        }
        // The writer answers every job, unless it panics on the way.
        let Ok((written, reason)) = written.await else {
            return Err(PutError::Unknown);
        };
        if let Err(PutError::Unavailable { .. }) = &written {
            self.reasons.note(reason);
        }
        written
    }

    fn full(&self, reason: Reason) -> PutError {
        self.reasons.note(reason);
        PutError::Unavailable {
            retry_after_seconds: QUEUE_RETRY_SECONDS,
        }
    }
}

impl<W: Writer> Drop for GroupCommit<W> {
    fn drop(&mut self) {
        self.queue = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_panic)) => tracing::error!("the writer's thread panicked"),
            Some(Ok(Closed::EventsLost)) => self.reasons.note_loss(),
            Some(Ok(Closed::Complete)) | None => {}
        }
    }
}

impl<W: Writer> fmt::Debug for GroupCommit<W> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("GroupCommit")
            .field("queued_bytes", &self.queued_bytes)
            .finish_non_exhaustive()
    }
}

fn writer_gone() -> PutError {
    PutError::Failed("the writer's thread has ended".to_owned())
}

/// Waits for a put; `None` once there will be none.
fn next_job<W: Writer>(writer: &mut W, jobs: &Receiver<Job<W>>) -> Option<Job<W>> {
    let Some(interval) = writer.idle_interval() else {
        return jobs.recv().ok();
    };
    loop {
        match jobs.recv_timeout(interval) {
            Ok(job) => return Some(job),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {
                if catch_unwind(AssertUnwindSafe(|| writer.idle())).is_err() {
                    tracing::error!("the writer panicked while it was idle");
                }
            }
        }
    }
}

fn run<W: Writer>(mut writer: W, jobs: &Receiver<Job<W>>, queued_bytes: &AtomicUsize) -> Closed {
    while let Some(first) = next_job(&mut writer, jobs) {
        let mut bytes = first.record.bytes();
        let mut records = vec![first.record];
        let mut replies = vec![first.reply];
        while records.len() < MAX_BATCH_PUTS
            && bytes < MAX_BATCH_BYTES
            && let Ok(job) = jobs.try_recv()
        {
            bytes += job.record.bytes();
            records.push(job.record);
            replies.push(job.reply);
        }
        queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        // After a panic nobody knows what was written: the replies are dropped, which says so.
        let results = catch_unwind(AssertUnwindSafe(|| writer.write(&records)));
        let results = results.unwrap_or_else(|_panic| {
            tracing::error!(puts = records.len(), "the writer panicked");
            Vec::new()
        });
        let reason = writer.unavailable_reason();
        for (reply, result) in replies.into_iter().zip(results) {
            // Nobody may be waiting any more; the record is written all the same.
            let _ = reply.send((result, reason));
        }
    }
    writer.close()
}
