//! What goes on on a connection: requests in service, bodies that arrive, heads that have begun.
//!
//! Only counts, and notes when a request ended, so that a request is not slowed down by being watched.
//! Never ends anything.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::task::TaskTracker;

/// The activity of one connection.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Those of the whole server, for what may outlive the connection.
    pub(crate) tasks: TaskTracker,
    /// Requests. Only the connection's own task counts them, so no addition is lost.
    begun: AtomicUsize,
    ended: AtomicUsize,
    /// Bodies of which more may come, also after their request was answered.
    open_bodies: AtomicUsize,
    /// Whether bytes have come that belong to no request. Those that came in one read with the end of
    /// the last request are not seen.
    has_half_head: AtomicBool,
    /// When the last request ended, or the connection began, in milliseconds since the first began.
    idle_since_ms: AtomicU64,
    /// Whether another connection would have the place of this one.
    is_asked_to_end: AtomicBool,
    /// The task of the connection.
    task: AtomicWaker,
}

/// A body of which more may come, until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenBody(Arc<Activity>);

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
            idle_since_ms: AtomicU64::new(now_ms()),
            ..Self::default()
        }
    }

    pub(crate) fn begin_request(&self) {
        self.has_half_head.store(false, Ordering::Relaxed);
        self.begun.store(self.begun() + 1, Ordering::Relaxed);
    }

    pub(crate) fn end_request(&self) {
        let ended = self.ended.load(Ordering::Relaxed);
        self.ended.store(ended + 1, Ordering::Relaxed);
        self.idle_since_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// How many requests there have been.
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether a request is in service, or its body still arrives.
    pub(crate) fn is_busy(&self) -> bool {
        self.begun() != self.ended.load(Ordering::Relaxed)
            || self.open_bodies.load(Ordering::Relaxed) > 0
    }

    /// Whether the head of a further request has begun.
    pub(crate) fn has_half_head(&self) -> bool {
        self.has_half_head.load(Ordering::Relaxed)
    }

    /// Since when nothing has been going on, in milliseconds since the first connection began.
    pub(crate) fn idle_since_ms(&self) -> Option<u64> {
        let is_idle = !self.is_busy() && !self.has_half_head();
        is_idle.then(|| self.idle_since_ms.load(Ordering::Relaxed))
    }

    /// Asks the connection to end, if it is idle still.
    pub(crate) fn ask_to_end(&self) {
        self.is_asked_to_end.store(true, Ordering::Relaxed);
        self.task.wake();
    }

    pub(crate) fn is_asked_to_end(&self) -> bool {
        self.is_asked_to_end.load(Ordering::Relaxed)
    }

    /// Goes on as if nobody had asked.
    pub(crate) fn decline_end(&self) {
        self.is_asked_to_end.store(false, Ordering::Relaxed);
    }

    /// Has a task woken when the connection is asked to end.
    pub(crate) fn wake_to_end(&self, context: &Context<'_>) {
        self.task.register(context.waker());
    }

    #[cfg(test)]
    pub(crate) fn set_idle_since_ms(&self, since_ms: u64) {
        self.idle_since_ms.store(since_ms, Ordering::Relaxed);
    }
}

/// The time in milliseconds since this was called first.
fn now_ms() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl OpenBody {
    pub(crate) fn new(activity: &Arc<Activity>) -> Self {
        activity.open_bodies.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }

    /// For what is to go on with the body.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }
}

impl Drop for OpenBody {
    fn drop(&mut self) {
        self.0.open_bodies.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S> Observed<S> {
    pub(crate) fn new(stream: S, activity: &Arc<Activity>) -> Self {
        Self {
            stream,
            activity: Arc::clone(activity),
        }
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
