//! Reads the state of a server: whether it is ready, and its numbers. It may exist before the server and after it.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard, Weak};
use std::time::Duration;

use crate::limits::Limits;
use crate::metrics::server_metrics::ServerMetrics;
use crate::server::connection_limiter::ConnectionLimiter;
use crate::server::context::ServerContext;
use crate::server::refusal_log::RefusalLog;
use crate::server::shutdown::{Phase, Shutdown};
use crate::server::transport::Transport;

/// How long a server that is dropped waits for those who read its state: longer than any read that does not block.
const MAX_DETACH_TIME: Duration = Duration::from_secs(1);

/// Reads the health and the metrics of a server. A clone reads those of the same server.
///
/// One that is made before the server, and given to [`monitor`](crate::PeerServerBuilder::monitor), also shows
/// that the server starts. It does not keep the server or its sink open.
#[derive(Clone, Default)]
pub struct Monitor(Arc<RwLock<Attachment>>);

/// What a monitor reads.
#[derive(Default)]
struct Attachment {
    /// `None` before the server has started.
    observed: Option<Arc<Observed>>,
    /// Whether the times of its requests will be read.
    is_timed: bool,
}

/// The data of a server that a monitor reads. None of it keeps the sink open.
#[cfg_attr(
    not(feature = "admin"),
    expect(dead_code, reason = "without the feature, no code reads the numbers")
)]
pub(crate) struct Observed {
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<ServerMetrics>,
    pub(crate) refusals: Arc<RefusalLog>,
    pub(crate) connections: Arc<ConnectionLimiter>,
    pub(crate) transport: Arc<Transport>,
    shutdown: Arc<Shutdown>,
    readers: Mutex<Readers>,
    left: Condvar,
}

/// Those who read the state of a server.
struct Readers {
    count: usize,
    /// Gone once the server was dropped.
    context: Weak<ServerContext>,
}

/// A reader, until this is dropped.
struct Reader<'a> {
    context: Option<Arc<ServerContext>>,
    observed: &'a Observed,
}

/// Whether a server is likely to store the next puts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Why it is not; empty if it is.
    pub reasons: Vec<NotReady>,
}

/// Why a server is not ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// It has not started yet: the component is being compiled, or the sink is being opened.
    #[error("starting")]
    Starting,
    /// It is closing, or was closed.
    #[error("draining")]
    Draining,
    /// It handles as many requests as allowed.
    #[error("no permits: {0} requests are handled, as many as allowed (--max-concurrent-requests)")]
    NoPermits(u32),
    /// The queue of the sink is full.
    #[error("the queue of the sink is full")]
    QueueFull,
    /// The sink stores nothing at present.
    #[error("the sink stores nothing at present: {0}")]
    Sink(String),
}

impl Health {
    /// Whether the server is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.reasons.is_empty()
    }
}

impl Monitor {
    /// A monitor of a server that has not started.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the server is likely to store puts now, and why not.
    #[must_use]
    pub fn health(&self) -> Health {
        let reasons = self.observe(Observed::not_ready);
        let reasons = reasons.unwrap_or_else(|| vec![NotReady::Starting]);
        Health { reasons }
    }

    /// Calls `read` with the data of the server: those in [`Observed`], and those that exist until it is dropped.
    /// `None` before the server has started. Dropping the server waits for `read`, for a while: it must not block.
    pub(crate) fn observe<T>(
        &self,
        read: impl FnOnce(&Observed, Option<&ServerContext>) -> T,
    ) -> Option<T> {
        let observed = self.observed()?;
        let reader = observed.enter();
        Some(read(&observed, reader.context.as_deref()))
    }

    /// Reads the state of this server from now on.
    pub(crate) fn attach(
        &self,
        context: &Arc<ServerContext>,
        shutdown: &Arc<Shutdown>,
        connections: &Arc<ConnectionLimiter>,
        transport: &Arc<Transport>,
    ) {
        let observed = Observed {
            limits: context.limits,
            metrics: Arc::clone(&context.metrics),
            refusals: Arc::clone(&context.refusals),
            connections: Arc::clone(connections),
            transport: Arc::clone(transport),
            shutdown: Arc::clone(shutdown),
            readers: Mutex::new(Readers {
                count: 0,
                context: Arc::downgrade(context),
            }),
            left: Condvar::new(),
        };
        let mut attachment = self.attachment();
        if attachment.is_timed {
            observed.metrics.enable_timing();
        }
        attachment.observed = Some(Arc::new(observed));
    }

    /// Has the server observe the times of its requests from now on, since they will be read.
    #[cfg(feature = "admin")]
    pub(crate) fn enable_timing(&self) {
        let mut attachment = self.attachment();
        attachment.is_timed = true;
        if let Some(observed) = &attachment.observed {
            observed.metrics.enable_timing();
        }
    }

    /// Never refers to the data of the server again. Waits for calls of [`observe`](Self::observe), which would
    /// otherwise drop the sink if the server is dropped meanwhile, but not for long: the code of an embedder's sink may
    /// block.
    pub(crate) fn detach(&self) {
        let Some(observed) = self.observed() else {
            return;
        };
        let mut readers = observed.readers();
        readers.context = Weak::new();
        let waited = observed
            .left
            .wait_timeout_while(readers, MAX_DETACH_TIME, |readers| readers.count > 0);
        let (readers, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if readers.count > 0 {
            tracing::warn!("the health of the sink is still read: the sink is dropped after that");
        }
    }

    /// Each change leaves the value consistent, so a poisoned lock is still good.
    fn observed(&self) -> Option<Arc<Observed>> {
        let attachment = self.0.read().unwrap_or_else(PoisonError::into_inner);
        attachment.observed.clone()
    }

    fn attachment(&self) -> RwLockWriteGuard<'_, Attachment> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observed {
    fn enter(&self) -> Reader<'_> {
        let mut readers = self.readers();
        readers.count += 1;
        Reader {
            context: readers.context.upgrade(),
            observed: self,
        }
    }

    /// Each change leaves the value consistent, so a poisoned lock is still good.
    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn not_ready(&self, context: Option<&ServerContext>) -> Vec<NotReady> {
        let mut reasons = Vec::new();
        let context = context.filter(|_| !self.shutdown.has_begun(Phase::Draining));
        let Some(context) = context else {
            return vec![NotReady::Draining];
        };
        let permits = self.limits.max_concurrent_requests;
        if context.entry_point.permits_in_use() >= permits {
            reasons.push(NotReady::NoPermits(permits));
        }
        let sink = context.dispatcher.sink_metrics();
        let queue = sink.and_then(|sink| sink.queue.as_ref());
        if queue.is_some_and(|queue| queue.is_full()) {
            reasons.push(NotReady::QueueFull);
        }
        if let Err(reason) = context.dispatcher.health() {
            reasons.push(NotReady::Sink(reason));
        }
        reasons
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        // Before the server, which waits for this, goes on.
        self.context = None;
        self.observed.readers().count -= 1;
        self.observed.left.notify_all();
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Monitor").finish_non_exhaustive()
    }
}
