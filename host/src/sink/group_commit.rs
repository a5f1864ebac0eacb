//! Group commit: one thread writes all queued puts as one batch.
//!
//! A put completes only after its batch is written. No timer delays a single put: while one batch is
//! written, the next one accumulates. The [`Writer`] decides the result of each put.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

use tokio::sync::oneshot;

use crate::error::Error;
use crate::metrics::Writers;
use crate::metrics::histogram::Stopwatch;
use crate::metrics::sink_metrics::{BatchMetrics, QueueMetrics, SinkMetrics};
use crate::sink::reason::Reason;
use crate::sink::unavailable_reasons::UnavailableReasons;
use crate::sink::{BUSY_RETRY_SECONDS, PutError};

/// The most puts of a batch: with as many, the fixed cost of a batch no longer matters.
const MAX_BATCH_PUTS: usize = 1024;

/// The size in bytes at which a batch is closed: beyond it, the throughput of the disk matters, not the
/// number of batches. A single large event may exceed it.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// The default of the most puts in a queue: twice the requests that a server handles at most, since puts
/// that timed out remain in the queue.
pub const DEFAULT_MAX_QUEUED_PUTS: usize = 8192;

/// The default of the size in bytes at which a queue accepts no further put: half a second of a slow disk.
pub const DEFAULT_MAX_QUEUED_BYTES: usize = 64 * 1024 * 1024;

/// The highest limit of the puts in a queue: the slots alone take some 100 MB then.
pub const MAX_QUEUED_PUTS: usize = 1_048_576;

/// The limits of a queue. A put that exceeds one is unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// The most puts, up to [`MAX_QUEUED_PUTS`].
    pub puts: usize,
    /// The size in bytes of keys and events at which no further put is accepted.
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

/// The data of a put.
#[derive(Debug)]
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
    /// The result for a record that was written, or was stored already.
    type Written: Send + 'static;

    /// Writes `records` as durably as this writer ever does. Returns one result for each, in their order.
    fn write(&mut self, records: &[Record]) -> Vec<Result<Self::Written, PutError>>;

    /// Why the last batch was unavailable, if it was.
    fn unavailable_reason(&self) -> Reason {
        Reason::StoreBusy
    }

    /// The interval at which `idle` is called while there are no puts; `None` for never.
    fn idle_interval(&self) -> Option<Duration> {
        None
    }

    /// Maintains the output while there is nothing to write.
    fn idle(&mut self) {}

    /// Begins a new file if the old one was moved away.
    fn reopen(&mut self) -> Result<(), Error> {
        Ok(())
    }

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

/// A handle to the thread of a writer. Dropped, it waits until the thread has written the queue and dropped
/// its writer.
pub(crate) struct GroupCommit<W: Writer> {
    /// `None` only while this is dropped.
    queue: Option<SyncSender<Job<W>>>,
    queued: Arc<QueueMetrics>,
    batches: Arc<BatchMetrics>,
    /// Records why puts were unavailable.
    reasons: Arc<UnavailableReasons>,
    thread: Option<JoinHandle<Closed>>,
}

/// The writer's reply to a put.
struct Reply<T> {
    result: Result<T, PutError>,
    /// The reason if it was unavailable.
    reason: Reason,
    /// What was put, so that the put frees it and not the writer's thread: to free what another thread has allocated
    /// takes longer.
    record: Record,
}

struct QueuedPut<W: Writer> {
    record: Record,
    reply: oneshot::Sender<Reply<W::Written>>,
}

enum Job<W: Writer> {
    Put(QueuedPut<W>),
    Reopen(oneshot::Sender<Result<(), Error>>),
}

impl<W: Writer> GroupCommit<W> {
    /// Starts the thread of `writer`.
    pub(crate) fn start(name: &str, limits: QueueLimits, writer: W) -> io::Result<Self> {
        let max_puts = limits.puts.clamp(1, MAX_QUEUED_PUTS);
        let (queue, jobs) = sync_channel(max_puts);
        let queued = Arc::new(QueueMetrics::new(max_puts, limits.bytes));
        let batches = Arc::<BatchMetrics>::default();
        let (counted, observed) = (Arc::clone(&queued), Arc::clone(&batches));
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(writer, &jobs, &counted, &observed))?;
        Ok(Self {
            queue: Some(queue),
            queued,
            batches,
            reasons: Arc::default(),
            thread: Some(thread),
        })
    }

    /// The reasons why puts were unavailable.
    pub(crate) fn unavailable_reasons(&self) -> Arc<UnavailableReasons> {
        Arc::clone(&self.reasons)
    }

    /// The numbers of the queue and of the batches.
    pub(crate) fn metrics(&self) -> SinkMetrics {
        SinkMetrics {
            queue: Some(Arc::clone(&self.queued)),
            batches: Some(Arc::clone(&self.batches)),
            ..SinkMetrics::default()
        }
    }

    /// Queues a record, waits until it is written, and returns it with the result. If this is dropped earlier, the
    /// record is written all the same.
    pub(crate) async fn put(&self, record: Record) -> Result<(W::Written, Record), PutError> {
        let bytes = record.bytes();
        let queued = &*self.queued;
        if queued.bytes.fetch_add(bytes, Ordering::Relaxed) >= queued.max_bytes {
            queued.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(self.full(Reason::QueueBytesFull));
        }
        queued.puts.fetch_add(1, Ordering::Relaxed);
        let (reply, written) = oneshot::channel();
        let sent = match &self.queue {
            Some(queue) => queue.try_send(Job::Put(QueuedPut { record, reply })),
            None => Err(TrySendError::Disconnected(Job::Put(QueuedPut {
                record,
                reply,
            }))),
        };
        if let Err(error) = sent {
            queued.bytes.fetch_sub(bytes, Ordering::Relaxed);
            queued.puts.fetch_sub(1, Ordering::Relaxed);
            return Err(match error {
                TrySendError::Full(_) => self.full(Reason::QueueFull),
                TrySendError::Disconnected(_) => writer_exited(),
            });
        }
        // The writer replies to every job, unless it panics.
        let Ok(reply) = written.await else {
            return Err(PutError::Unknown);
        };
        if let Err(PutError::Unavailable { .. }) = &reply.result {
            self.reasons.record(reply.reason);
        }
        Ok((reply.result?, reply.record))
    }

    /// Has the writer reopen its file after the puts that are queued, and waits for that. Blocks.
    pub(crate) fn reopen(&self) -> Result<(), Error> {
        let (reply, reopened) = oneshot::channel();
        let queue = self.queue.as_ref();
        let is_sent = queue.is_some_and(|queue| queue.send(Job::Reopen(reply)).is_ok());
        // A writer that has ended, or that panics, has said so.
        match is_sent.then(|| reopened.blocking_recv()) {
            Some(Ok(result)) => result,
            _ => Ok(()),
        }
    }

    fn full(&self, reason: Reason) -> PutError {
        self.reasons.record(reason);
        PutError::Unavailable {
            retry_after_seconds: BUSY_RETRY_SECONDS,
        }
    }
}

impl<W: Writer> Drop for GroupCommit<W> {
    fn drop(&mut self) {
        self.queue = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_panic)) => {
                tracing::error!("the writer's thread panicked");
                self.reasons.record_loss();
            }
            Some(Ok(Closed::EventsLost)) => self.reasons.record_loss(),
            Some(Ok(Closed::Complete)) | None => {}
        }
    }
}

impl<W: Writer> fmt::Debug for GroupCommit<W> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("GroupCommit")
            .field("queued", &self.queued)
            .finish_non_exhaustive()
    }
}

fn writer_exited() -> PutError {
    PutError::Failed("the writer's thread has ended".to_owned())
}

/// Waits for a job; `None` once the queue is closed.
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

fn run<W: Writer>(
    mut writer: W,
    jobs: &Receiver<Job<W>>,
    queued: &QueueMetrics,
    batches: &BatchMetrics,
) -> Closed {
    // The job that ended the last batch.
    let mut next = None;
    while let Some(job) = next.take().or_else(|| next_job(&mut writer, jobs)) {
        let first = match job {
            Job::Put(first) => first,
            Job::Reopen(reply) => {
                reopen(&mut writer, reply);
                continue;
            }
        };
        let mut bytes = first.record.bytes();
        let mut records = vec![first.record];
        let mut replies = vec![first.reply];
        while records.len() < MAX_BATCH_PUTS
            && bytes < MAX_BATCH_BYTES
            && let Ok(job) = jobs.try_recv()
        {
            match job {
                Job::Put(put) => {
                    bytes += put.record.bytes();
                    records.push(put.record);
                    replies.push(put.reply);
                }
                other @ Job::Reopen(_) => {
                    next = Some(other);
                    break;
                }
            }
        }
        queued.bytes.fetch_sub(bytes, Ordering::Relaxed);
        queued.puts.fetch_sub(records.len(), Ordering::Relaxed);
        batches.puts.observe(records.len() as u64, Writers::One);
        let start = Stopwatch::start();
        // After a panic the results are unknown: the replies are dropped, and each put returns `Unknown`.
        let results = catch_unwind(AssertUnwindSafe(|| writer.write(&records)));
        let results = results.unwrap_or_else(|_panic| {
            tracing::error!(puts = records.len(), "the writer panicked");
            Vec::new()
        });
        batches.time.observe_since(start, Writers::One);
        let reason = writer.unavailable_reason();
        for ((reply, record), result) in replies.into_iter().zip(records).zip(results) {
            // The put may have been dropped; the record is written all the same.
            let _ = reply.send(Reply {
                result,
                reason,
                record,
            });
        }
    }
    writer.close()
}

fn reopen<W: Writer>(writer: &mut W, reply: oneshot::Sender<Result<(), Error>>) {
    match catch_unwind(AssertUnwindSafe(|| writer.reopen())) {
        // Nobody may wait any more.
        Ok(result) => drop(reply.send(result)),
        Err(_panic) => tracing::error!("the writer panicked while it reopened its file"),
    }
}
