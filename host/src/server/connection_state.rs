//! The state of a connection: requests in service, bodies that are being read, a header section that has
//! started.
//!
//! Consists of counters and flags, so that recording it does not slow down a request.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::task::Context;
use std::time::Instant;

use futures_util::task::AtomicWaker;
use tokio_util::task::TaskTracker;

use crate::server::message_scanner::Defect;

/// The state of one connection.
#[derive(Debug, Default)]
pub(crate) struct ConnectionState {
    /// The tasks of the server, for work that outlives the connection.
    tasks: TaskTracker,
    /// Shared by all connections of the server.
    last_responses: Arc<AtomicUsize>,
    /// Written by the connection's task only, so no addition is lost.
    requests_started: AtomicUsize,
    requests_ended: AtomicUsize,
    /// Bodies that may be read after the response to their request, and have not been read to the end.
    open_bodies: AtomicUsize,
    /// Responses that a guest still writes.
    open_responses: AtomicUsize,
    /// Whether a response waits for the client to read it.
    is_write_blocked: AtomicBool,
    /// Whether the last response is sent, and further bytes are discarded.
    is_lingering: AtomicBool,
    /// Whether bytes of a further request have arrived. Those that were read together with the end of the
    /// last request are not seen.
    is_reading_head: AtomicBool,
    /// When the last request ended, or the connection started, in the unit of [`now_ms`].
    idle_since_ms: AtomicU64,
    /// Whether another connection waits for this one to close.
    is_asked_to_close: AtomicBool,
    /// The task of the connection.
    task: AtomicWaker,
    /// The bytes that were read. Written by the connection's task only.
    received: AtomicU64,
    /// At which number of bytes the task that reads the body is woken; 0 for never.
    body_wake_bytes: AtomicU64,
    body: AtomicWaker,
    /// The number, from 1, of the first request with a defect that hyper does not see.
    defect: OnceLock<(usize, Defect)>,
    /// Whether the client may send more than is read before the last response.
    lingers: AtomicBool,
}

/// Counts a body as open until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenBody(Arc<ConnectionState>);

/// Counts a response as open until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenResponse(Arc<ConnectionState>);

impl ConnectionState {
    /// The state of a new connection. `tasks` and `last_responses` are those of its server.
    pub(crate) fn new(tasks: TaskTracker, last_responses: Arc<AtomicUsize>) -> Self {
        Self {
            tasks,
            last_responses,
            idle_since_ms: AtomicU64::new(now_ms()),
            ..Self::default()
        }
    }

    /// The tasks of the server.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Records that the header section of a further request has started.
    pub(crate) fn begin_head(&self) {
        self.is_reading_head.store(true, Ordering::Relaxed);
    }

    /// Records that a header of a proxy or a TLS handshake has ended: a first request has yet to start.
    pub(crate) fn end_preamble(&self) {
        self.is_reading_head.store(false, Ordering::Relaxed);
        self.begin_idle();
    }

    pub(crate) fn begin_request(&self) {
        self.is_reading_head.store(false, Ordering::Relaxed);
        self.requests_started
            .store(self.requests_started() + 1, Ordering::Relaxed);
    }

    /// Records that the response to a request was made, and when.
    pub(crate) fn end_request(&self, at: Instant) {
        self.requests_ended
            .store(self.requests_ended() + 1, Ordering::Relaxed);
        self.idle_since_ms
            .store(milliseconds(at), Ordering::Relaxed);
    }

    /// Starts the time that the connection is idle.
    pub(crate) fn begin_idle(&self) {
        self.idle_since_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// The number of requests so far.
    pub(crate) fn requests_started(&self) -> usize {
        self.requests_started.load(Ordering::Relaxed)
    }

    /// How many of them have a response.
    pub(crate) fn requests_ended(&self) -> usize {
        self.requests_ended.load(Ordering::Relaxed)
    }

    pub(crate) fn receive(&self, bytes: u64) {
        let received = self.received() + bytes;
        self.received.store(received, Ordering::Relaxed);
        let wake_bytes = self.body_wake_bytes.load(Ordering::Acquire);
        if wake_bytes != 0 && received > wake_bytes {
            self.body_wake_bytes.store(0, Ordering::Relaxed);
            self.body.wake();
        }
    }

    /// Wakes the task that reads a body once more than `bytes` bytes have been read: hyper does not wake it
    /// for framing without data.
    pub(crate) fn wake_body_beyond(&self, bytes: u64, context: &Context<'_>) {
        self.body.register(context.waker());
        self.body_wake_bytes.store(bytes, Ordering::Release);
    }

    /// The number of bytes that were read.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn record_defect(&self, request: usize, defect: Defect) {
        // No request after the first one with a defect is served.
        let _ = self.defect.set((request, defect));
    }

    /// The defect of the current request.
    pub(crate) fn defect(&self) -> Option<Defect> {
        let (request, defect) = self.defect.get()?;
        (*request == self.requests_started()).then_some(*defect)
    }

    pub(crate) fn linger(&self) {
        self.lingers.store(true, Ordering::Relaxed);
        self.last_responses.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the connection is to be kept open for a while after its last response: one that is closed while
    /// the client sends is reset, and the client may never read the response.
    pub(crate) fn lingers(&self) -> bool {
        self.lingers.load(Ordering::Relaxed)
    }

    /// Whether a request is in service, or its body is still read.
    pub(crate) fn is_busy(&self) -> bool {
        self.requests_started() != self.requests_ended()
            || self.open_bodies.load(Ordering::Relaxed) > 0
    }

    /// Whether the header section of a further request has started.
    pub(crate) fn is_reading_head(&self) -> bool {
        self.is_reading_head.load(Ordering::Relaxed)
    }

    /// Whether a response is being written, and the client reads it.
    pub(crate) fn is_responding(&self) -> bool {
        self.open_responses.load(Ordering::Relaxed) > 0 && !self.is_write_blocked()
    }

    /// Whether a response waits for the client to read it.
    pub(crate) fn is_write_blocked(&self) -> bool {
        self.is_write_blocked.load(Ordering::Relaxed)
    }

    pub(crate) fn set_write_blocked(&self, is_blocked: bool) {
        if self.is_write_blocked() != is_blocked {
            self.is_write_blocked.store(is_blocked, Ordering::Relaxed);
            self.begin_idle();
        }
    }

    /// Records that the last response is sent, and that further bytes are discarded.
    pub(crate) fn begin_lingering(&self) {
        self.is_lingering.store(true, Ordering::Relaxed);
        self.last_responses.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of times that a connection of the server sent its last response and began to linger.
    pub(crate) fn last_responses(&self) -> usize {
        self.last_responses.load(Ordering::Relaxed)
    }

    /// Since when the connection is idle, in the unit of [`now_ms`]. A connection that has sent its last
    /// response counts as idle for longest.
    pub(crate) fn idle_since_ms(&self) -> Option<u64> {
        if self.is_lingering.load(Ordering::Relaxed) {
            return Some(0);
        }
        let is_idle = !self.is_busy()
            && !self.is_reading_head()
            && !self.is_write_blocked()
            && self.open_responses.load(Ordering::Relaxed) == 0;
        if is_idle && self.lingers() {
            return Some(0);
        }
        is_idle.then(|| self.idle_since_ms.load(Ordering::Relaxed))
    }

    /// Whether an idle connection has sent its last response.
    pub(crate) fn has_last_response(&self) -> bool {
        self.lingers() || self.is_lingering.load(Ordering::Relaxed)
    }

    /// Asks the connection to close if it is still idle.
    pub(crate) fn ask_to_close(&self) {
        self.is_asked_to_close.store(true, Ordering::Relaxed);
        self.task.wake();
    }

    pub(crate) fn is_asked_to_close(&self) -> bool {
        self.is_asked_to_close.load(Ordering::Relaxed)
    }

    /// Ignores the request to close, until the next one.
    pub(crate) fn decline_close(&self, context: &Context<'_>) {
        self.is_asked_to_close.store(false, Ordering::Relaxed);
        self.wake_on_close(context);
    }

    /// Wakes the task once the connection is asked to close.
    pub(crate) fn wake_on_close(&self, context: &Context<'_>) {
        self.task.register(context.waker());
        // An earlier request has woken no task.
        if self.is_asked_to_close() {
            context.waker().wake_by_ref();
        }
    }

    #[cfg(test)]
    pub(crate) fn set_idle_since_ms(&self, since_ms: u64) {
        self.idle_since_ms.store(since_ms, Ordering::Relaxed);
    }
}

/// The time in milliseconds since a connection was first opened.
pub(crate) fn now_ms() -> u64 {
    milliseconds(Instant::now())
}

fn milliseconds(at: Instant) -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let since_start = at.saturating_duration_since(*START);
    u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX)
}

impl OpenBody {
    pub(crate) fn new(state: &Arc<ConnectionState>) -> Self {
        state.open_bodies.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(state))
    }
}

impl Drop for OpenBody {
    fn drop(&mut self) {
        self.0.open_bodies.fetch_sub(1, Ordering::Relaxed);
    }
}

impl OpenResponse {
    pub(crate) fn new(state: &Arc<ConnectionState>) -> Self {
        state.open_responses.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(state))
    }
}

impl Drop for OpenResponse {
    fn drop(&mut self) {
        self.0.begin_idle();
        self.0.open_responses.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Waker};

    use super::ConnectionState;
    use crate::util::wake_counter::WakeCounter;

    #[test]
    fn task_that_declined_to_close_is_woken_by_next_request() {
        let woken = Arc::new(WakeCounter::default());
        let waker = Waker::from(Arc::clone(&woken));
        let context = Context::from_waker(&waker);
        let state = ConnectionState::default();
        state.wake_on_close(&context);
        for times in 1..4 {
            state.ask_to_close();
            assert_eq!(woken.wakes(), times);
            assert!(state.is_asked_to_close());
            state.decline_close(&context);
            assert!(!state.is_asked_to_close());
        }
    }

    #[test]
    fn early_request_to_close_wakes_task() {
        let woken = Arc::new(WakeCounter::default());
        let waker = Waker::from(Arc::clone(&woken));
        let state = ConnectionState::default();
        state.ask_to_close();
        state.wake_on_close(&Context::from_waker(&waker));
        assert_eq!(woken.wakes(), 1);
    }
}
