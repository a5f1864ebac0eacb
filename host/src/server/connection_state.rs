//! What goes on on a connection: requests in service, bodies that arrive, heads that have begun.
//!
//! Only counts, and notes when a request ended, so that a request is not slowed down by being watched.
//! Never ends anything.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::task::TaskTracker;

use crate::server::message_scanner::Defect;

/// The activity of one connection.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Those of the whole server, for what may outlive the connection.
    pub(crate) tasks: TaskTracker,
    /// How often connections of the whole server were about to linger.
    last_answers: Arc<AtomicUsize>,
    /// Requests. Only the connection's own task counts them, so no addition is lost.
    begun: AtomicUsize,
    ended: AtomicUsize,
    /// Bodies of which more may come, also after their request was answered.
    open_bodies: AtomicUsize,
    /// Answers of which a guest may still write more.
    open_answers: AtomicUsize,
    /// Whether an answer waits for its client to read.
    is_write_blocked: AtomicBool,
    /// Whether the last answer is sent, and what still comes is thrown away.
    is_lingering: AtomicBool,
    /// Whether bytes have come that belong to no request. Those that came in one read with the end of
    /// the last request are not seen.
    has_half_head: AtomicBool,
    /// When the last request ended, or the connection began, in milliseconds since the first began.
    idle_since_ms: AtomicU64,
    /// Whether another connection would have the place of this one.
    is_asked_to_end: AtomicBool,
    /// The task of the connection.
    task: AtomicWaker,
    /// Bytes of any kind. Only the connection's own task counts them.
    received: AtomicU64,
    /// Beyond how many of them the task is woken that reads the body, or 0 where it is not.
    body_wake_bytes: AtomicU64,
    body: AtomicWaker,
    /// The first request that has a defect which hyper does not see, counted from 1.
    defect: OnceLock<(usize, Defect)>,
    /// Whether more may come than is read before the connection ends.
    lingers: AtomicBool,
}

/// A body of which more may come, until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenBody(Arc<Activity>);

/// An answer of which a guest may still write more, until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenAnswer(Arc<Activity>);

/// A stream that tells when bytes come.
#[derive(Debug)]
pub(crate) struct Observed<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl Activity {
    /// That of another connection of the same server.
    pub(crate) fn apart(&self) -> Self {
        Self {
            tasks: self.tasks.clone(),
            last_answers: Arc::clone(&self.last_answers),
            idle_since_ms: AtomicU64::new(now_ms()),
            ..Self::default()
        }
    }

    pub(crate) fn begin_request(&self) {
        self.has_half_head.store(false, Ordering::Relaxed);
        self.begun.store(self.begun() + 1, Ordering::Relaxed);
    }

    pub(crate) fn end_request(&self) {
        self.ended.store(self.ended() + 1, Ordering::Relaxed);
        self.begin_idle();
    }

    /// It is idle from now on.
    pub(crate) fn begin_idle(&self) {
        self.idle_since_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// How many requests there have been.
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// How many of them have an answer.
    pub(crate) fn ended(&self) -> usize {
        self.ended.load(Ordering::Relaxed)
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

    /// Has the task that reads a body woken once more than so many bytes have come: of framing without
    /// data hyper tells it nothing.
    pub(crate) fn wake_body_beyond(&self, bytes: u64, context: &Context<'_>) {
        self.body.register(context.waker());
        self.body_wake_bytes.store(bytes, Ordering::Release);
    }

    /// How many bytes have come.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn find_defect(&self, request: usize, defect: Defect) {
        // None is served behind the first.
        let _ = self.defect.set((request, defect));
    }

    /// The defect of the request that was begun last.
    pub(crate) fn defect(&self) -> Option<Defect> {
        let (request, defect) = self.defect.get()?;
        (*request == self.begun()).then_some(*defect)
    }

    pub(crate) fn linger(&self) {
        self.lingers.store(true, Ordering::Relaxed);
        self.last_answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the connection is not to be closed as soon as its last answer is sent: one that is closed
    /// while its client sends is reset, and the client may never read that answer.
    pub(crate) fn lingers(&self) -> bool {
        self.lingers.load(Ordering::Relaxed)
    }

    /// Whether a request is in service, or its body still arrives.
    pub(crate) fn is_busy(&self) -> bool {
        self.begun() != self.ended() || self.open_bodies.load(Ordering::Relaxed) > 0
    }

    /// Whether the head of a further request has begun.
    pub(crate) fn has_half_head(&self) -> bool {
        self.has_half_head.load(Ordering::Relaxed)
    }

    /// Whether an answer is being written, and its client reads it.
    pub(crate) fn is_answering(&self) -> bool {
        self.open_answers.load(Ordering::Relaxed) > 0 && !self.is_write_blocked()
    }

    /// Whether an answer waits for its client to read.
    pub(crate) fn is_write_blocked(&self) -> bool {
        self.is_write_blocked.load(Ordering::Relaxed)
    }

    pub(crate) fn set_write_blocked(&self, is_blocked: bool) {
        if self.is_write_blocked() != is_blocked {
            self.is_write_blocked.store(is_blocked, Ordering::Relaxed);
            self.begin_idle();
        }
    }

    /// The last answer is sent, and what still comes is thrown away.
    pub(crate) fn begin_lingering(&self) {
        self.is_lingering.store(true, Ordering::Relaxed);
        self.last_answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes when a connection of the same server is about to linger, or does.
    pub(crate) fn last_answers(&self) -> usize {
        self.last_answers.load(Ordering::Relaxed)
    }

    /// Since when nothing has been going on, in milliseconds since the first connection began. One that
    /// has its last answer has nothing to lose but its client's time, and comes before all others.
    pub(crate) fn idle_since_ms(&self) -> Option<u64> {
        if self.is_lingering.load(Ordering::Relaxed) {
            return Some(0);
        }
        let is_idle = !self.is_busy()
            && !self.has_half_head()
            && !self.is_write_blocked()
            && self.open_answers.load(Ordering::Relaxed) == 0;
        if is_idle && self.lingers() {
            return Some(0);
        }
        is_idle.then(|| self.idle_since_ms.load(Ordering::Relaxed))
    }

    /// Whether a connection that is idle has its last answer.
    pub(crate) fn has_last_answer(&self) -> bool {
        self.lingers() || self.is_lingering.load(Ordering::Relaxed)
    }

    /// Asks the connection to end, if it is idle still.
    pub(crate) fn ask_to_end(&self) {
        self.is_asked_to_end.store(true, Ordering::Relaxed);
        self.task.wake();
    }

    pub(crate) fn is_asked_to_end(&self) -> bool {
        self.is_asked_to_end.load(Ordering::Relaxed)
    }

    /// Goes on as if nobody had asked, until somebody asks again.
    pub(crate) fn decline_end(&self, context: &Context<'_>) {
        self.is_asked_to_end.store(false, Ordering::Relaxed);
        self.wake_to_end(context);
    }

    /// Has a task woken once, when the connection is asked to end.
    pub(crate) fn wake_to_end(&self, context: &Context<'_>) {
        self.task.register(context.waker());
        // Who asked before that has woken nobody.
        if self.is_asked_to_end() {
            context.waker().wake_by_ref();
        }
    }

    #[cfg(test)]
    pub(crate) fn set_idle_since_ms(&self, since_ms: u64) {
        self.idle_since_ms.store(since_ms, Ordering::Relaxed);
    }
}

/// The time in milliseconds since the first connection began.
pub(crate) fn now_ms() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl OpenBody {
    pub(crate) fn new(activity: &Arc<Activity>) -> Self {
        activity.open_bodies.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }

    pub(crate) fn activity(&self) -> &Activity {
        &self.0
    }
}

impl Drop for OpenBody {
    fn drop(&mut self) {
        self.0.open_bodies.fetch_sub(1, Ordering::Relaxed);
    }
}

impl OpenAnswer {
    pub(crate) fn new(activity: &Arc<Activity>) -> Self {
        activity.open_answers.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for OpenAnswer {
    fn drop(&mut self) {
        self.0.begin_idle();
        self.0.open_answers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S> Observed<S> {
    pub(crate) fn new(stream: S, activity: &Arc<Activity>) -> Self {
        Self {
            stream,
            activity: Arc::clone(activity),
        }
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        // Empty lines before a request are none of it (RFC 9112, section 2.2).
        let is_empty_line = |byte: &u8| matches!(byte, b'\r' | b'\n');
        if !self.activity.is_busy() && !buffer.filled()[before..].iter().all(is_empty_line) {
            self.activity.has_half_head.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Context;

    use futures_util::task::{ArcWake, waker};

    use super::Activity;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl ArcWake for Woken {
        fn wake_by_ref(this: &Arc<Self>) {
            this.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn task_that_declined_to_end_is_woken_when_asked_again() {
        let woken = Arc::new(Woken::default());
        let waker = waker(Arc::clone(&woken));
        let context = Context::from_waker(&waker);
        let activity = Activity::default();
        activity.wake_to_end(&context);
        for times in 1..4 {
            activity.ask_to_end();
            assert_eq!(woken.0.load(Ordering::Relaxed), times);
            assert!(activity.is_asked_to_end());
            activity.decline_end(&context);
            assert!(!activity.is_asked_to_end());
        }
    }

    #[test]
    fn task_that_was_asked_before_it_could_be_woken_is_woken() {
        let woken = Arc::new(Woken::default());
        let waker = waker(Arc::clone(&woken));
        let activity = Activity::default();
        activity.ask_to_end();
        activity.wake_to_end(&Context::from_waker(&waker));
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }
}
