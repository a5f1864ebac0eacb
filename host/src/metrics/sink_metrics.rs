//! The numbers of a sink, as far as it has them.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Gauge;
use super::histogram::Histogram;

/// The numbers of a sink. A sink that comes without them has none.
#[derive(Debug, Default)]
pub(crate) struct SinkMetrics {
    pub(crate) queue: Option<Arc<QueueMetrics>>,
    pub(crate) batches: Option<Arc<BatchMetrics>>,
    pub(crate) store: Option<Arc<StoreMetrics>>,
    pub(crate) stream: Option<StreamMetrics>,
}

/// The puts that wait to be written, and the limits on them.
#[derive(Debug)]
pub(crate) struct QueueMetrics {
    pub(crate) puts: AtomicUsize,
    pub(crate) bytes: AtomicUsize,
    pub(crate) max_puts: usize,
    pub(crate) max_bytes: usize,
}

/// The batches of puts that are written together. Observed by one thread.
#[derive(Debug)]
pub(crate) struct BatchMetrics {
    pub(crate) puts: Histogram,
    pub(crate) time: Histogram,
}

/// The files of a store. Set by the thread of its writer.
#[derive(Debug)]
pub(crate) struct StoreMetrics {
    /// The size of the database file.
    pub(crate) database_bytes: Gauge,
    pub(crate) wal_bytes: Gauge,
    pub(crate) max_wal_bytes: u64,
    /// The time of a commit, with its sync.
    pub(crate) commit_time: Histogram,
    /// Why the store takes no puts.
    fault: Mutex<Option<String>>,
}

/// A stream of NATS, whose state is read when it is asked for.
pub(crate) struct StreamMetrics(pub(crate) Box<dyn Fn() -> StreamState + Send + Sync>);

/// The state of a stream of NATS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamState {
    pub(crate) is_connected: bool,
    /// Whether the last probe found a leader.
    pub(crate) has_leader: bool,
    /// How often it was connected again, to the same server or to another.
    pub(crate) reconnections: u64,
}

impl fmt::Debug for StreamMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0)().fmt(formatter)
    }
}

impl QueueMetrics {
    pub(crate) fn new(max_puts: usize, max_bytes: usize) -> Self {
        Self {
            puts: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            max_puts,
            max_bytes,
        }
    }

    /// How many puts there are, and how many bytes they have.
    pub(crate) fn depth(&self) -> (usize, usize) {
        (
            self.puts.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }

    pub(crate) fn is_full(&self) -> bool {
        let (puts, bytes) = self.depth();
        puts >= self.max_puts || bytes >= self.max_bytes
    }
}

impl Default for BatchMetrics {
    fn default() -> Self {
        Self {
            puts: Histogram::of_sizes(),
            time: Histogram::of_seconds(),
        }
    }
}

impl StoreMetrics {
    pub(crate) fn new(max_wal_bytes: u64) -> Self {
        Self {
            database_bytes: Gauge::default(),
            wal_bytes: Gauge::default(),
            max_wal_bytes,
            commit_time: Histogram::of_seconds(),
            fault: Mutex::new(None),
        }
    }

    pub(crate) fn fault(&self) -> Option<String> {
        // It is set as a whole, so a poisoned lock is still good.
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.clone()
    }

    pub(crate) fn set_fault(&self, next: Option<&str>) {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if fault.as_deref() != next {
            *fault = next.map(str::to_owned);
        }
    }
}
