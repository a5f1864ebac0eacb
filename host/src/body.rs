//! The body of a request on its way to the guest, within its limits.
//!
//! Bounds its bytes, its time and its pace, and the bytes of all bodies together. A body that the guest
//! leaves unread is drained for a while, so that a client that is still sending can read its
//! answer. Never looks into a byte.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep, sleep_until};
use wasmtime_wasi_http::Error as BodyError;

use crate::activity::{Activity, OpenBody};
use crate::local::Local;

/// Over how long the pace of a body is measured: lost packets are sent again within that.
const PACE_TIME: Duration = Duration::from_secs(5);

/// The size of a body in bytes up to which it may use all of a [`BodyBudget`]. Of larger ones a few
/// could use it up.
const SMALL_BODY_BYTES: u64 = 64 * 1024;

/// How much of an unread body is read and thrown away, in bytes: as much as the largest body
/// that is ever taken, so that whoever sends up to twice the limit still gets the answer.
const DRAIN_BYTES: usize = alldata_peer_guest::decode::MAX_BODY_BYTES;

/// How long that may take in all. A client that sends slower is cut off.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// What a body may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    /// The most bytes of a body.
    pub(crate) bytes: u64,
    /// The most time from the head of the request to the end of its body.
    pub(crate) time: Duration,
    /// The least bytes in a second, on the average of [`PACE_TIME`].
    pub(crate) rate: Option<NonZeroU64>,
}

/// The bytes of all bodies that are in flight at a time.
#[derive(Debug)]
pub(crate) struct BodyBudget {
    most: u64,
    /// Up to where a body that is not small may use it. What is left is for small ones.
    most_for_large: u64,
    used: AtomicU64,
}

/// What one request has of a [`BodyBudget`]. Dropped, it gives that back.
pub(crate) struct BodyShare {
    budget: Local<BodyBudget>,
    bytes: AtomicU64,
    /// The limit that the body went over.
    broken: OnceLock<BrokenLimit>,
}

/// A limit that ends a body. The guest only sees that it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BrokenLimit {
    /// [`BodyLimits::bytes`].
    Bytes,
    /// [`BodyLimits::time`] or [`BodyLimits::rate`].
    Time,
    /// That of the [`BodyBudget`].
    Budget,
}

impl BodyBudget {
    /// So many bytes for bodies of up to `largest` bytes. A quarter of it is for small ones, unless it
    /// is less than the rest that a large one needs.
    pub(crate) fn new(most: u64, largest: u64) -> Self {
        Self {
            most,
            most_for_large: largest.max(most - most / 4),
            used: AtomicU64::new(0),
        }
    }

    pub(crate) fn share(this: &Local<Self>) -> Arc<BodyShare> {
        Arc::new(BodyShare {
            budget: this.clone(),
            bytes: AtomicU64::new(0),
            broken: OnceLock::new(),
        })
    }
}

impl BodyShare {
    /// The limit that ended the body, if one did.
    pub(crate) fn broken_limit(&self) -> Option<BrokenLimit> {
        self.broken.get().copied()
    }

    /// Ends the body with an error that stands for `limit`.
    fn break_limit(&self, limit: BrokenLimit) -> BodyError {
        // Only the first limit counts.
        let _ = self.broken.set(limit);
        match limit {
            BrokenLimit::Bytes => BodyError::HttpRequestBodySize(None),
            BrokenLimit::Time => BodyError::ConnectionReadTimeout,
            BrokenLimit::Budget => BodyError::ConnectionLimitReached,
        }
    }

    /// Takes so many bytes more, unless that would be too many in all. What is refused is not counted
    /// even for a moment, or it could keep out a small body that there is room for.
    fn take(&self, bytes: u64) -> bool {
        let own = self.bytes.load(Ordering::Relaxed).saturating_add(bytes);
        let most = match own <= SMALL_BODY_BYTES {
            true => self.budget.most,
            false => self.budget.most_for_large,
        };
        let taken = self
            .budget
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|used| *used <= most)
            });
        if taken.is_ok() {
            self.bytes.store(own, Ordering::Relaxed);
        }
        taken.is_ok()
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A body that ends with an error once it goes over its limits.
pub(crate) struct LimitedBody {
    /// `None` once nothing more is to be read of it.
    incoming: Option<(Incoming, OpenBody)>,
    limits: BodyLimits,
    remaining: u64,
    /// Set only when the body has to be waited for: most are there with the head.
    waiting: Option<Waiting>,
    share: Arc<BodyShare>,
}

/// The wait for a body, from when it was not all there.
struct Waiting {
    /// By when it has to be there, unless no clock can tell that.
    end: Option<Instant>,
    /// By when as much of it has to have arrived as its pace asks for.
    pace_end: Instant,
    /// How much had arrived when its pace was last looked at.
    arrived: u64,
    timer: Pin<Box<Sleep>>,
    /// Whether it is late, and may still have arrived while nobody looked.
    is_late: bool,
}

impl LimitedBody {
    pub(crate) fn new(
        request: hyper::Request<Incoming>,
        limits: BodyLimits,
        share: Arc<BodyShare>,
        activity: &Arc<Activity>,
    ) -> hyper::Request<Self> {
        request.map(|incoming| Self {
            incoming: Some((incoming, OpenBody::new(activity))),
            limits,
            remaining: limits.bytes,
            waiting: None,
            share,
        })
    }

    /// All of the body, once it has arrived.
    ///
    /// # Errors
    ///
    /// When it ends before that.
    pub(crate) async fn whole(mut self) -> Result<Bytes, BodyError> {
        let first = self.next_data().await?.unwrap_or_default();
        // Most bodies are there as one.
        let Some(second) = self.next_data().await? else {
            return Ok(first);
        };
        let mut whole = BytesMut::from(first);
        whole.extend_from_slice(&second);
        while let Some(data) = self.next_data().await? {
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    }

    async fn next_data(&mut self) -> Result<Option<Bytes>, BodyError> {
        let frame = self.frame().await.transpose()?;
        // Nothing comes after trailers.
        Ok(frame.and_then(|frame| frame.into_data().ok()))
    }

    /// Counts a frame.
    fn admit(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        let Some(remaining) = self.remaining.checked_sub(bytes) else {
            return Err(self.share.break_limit(BrokenLimit::Bytes));
        };
        self.remaining = remaining;
        match self.share.take(bytes) {
            true => Ok(frame),
            false => Err(self.share.break_limit(BrokenLimit::Budget)),
        }
    }
}

impl Waiting {
    fn begin(limits: BodyLimits) -> Self {
        let now = Instant::now();
        Self {
            end: now.checked_add(limits.time),
            pace_end: now + PACE_TIME,
            arrived: 0,
            timer: Box::pin(sleep_until(now)),
            is_late: false,
        }
    }

    /// Ready when a body is too late of which so many bytes have arrived.
    fn poll_late(
        &mut self,
        arrived: u64,
        limits: BodyLimits,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            let pace_end = limits.rate.map(|_| self.pace_end);
            let Some(deadline) = self.end.into_iter().chain(pace_end).min() else {
                return Poll::Pending;
            };
            if self.timer.deadline() != deadline {
                self.timer.as_mut().reset(deadline);
            }
            ready!(self.timer.as_mut().poll(context));
            let is_over = self.end.is_some_and(|end| end <= deadline);
            let least = limits
                .rate
                .map_or(0, |rate| rate.get().saturating_mul(PACE_TIME.as_secs()));
            if !is_over && arrived - self.arrived >= least {
                self.arrived = arrived;
                self.pace_end = Instant::now() + PACE_TIME;
                continue;
            }
            if self.is_late {
                return Poll::Ready(());
            }
            // A server that stood still sees the end of its patience before what came meanwhile.
            self.is_late = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
    }
}

impl Body for LimitedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some((incoming, _)) = &mut this.incoming else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(context) {
            return Poll::Ready(match frame {
                Some(Ok(frame)) => {
                    if let Some(waiting) = &mut this.waiting {
                        waiting.is_late = false;
                    }
                    // Where its length was told, there is no waiting for an end.
                    if incoming.is_end_stream() {
                        this.incoming = None;
                    }
                    Some(this.admit(frame))
                }
                Some(Err(error)) => {
                    this.incoming = None;
                    Some(Err(BodyError::Hyper(error)))
                }
                None => {
                    this.incoming = None;
                    None
                }
            });
        }
        let arrived = this.limits.bytes - this.remaining;
        let waiting = this
            .waiting
            .get_or_insert_with(|| Waiting::begin(this.limits));
        ready!(waiting.poll_late(arrived, this.limits, context));
        // A client this slow is not waited for any longer, not even to drain its body.
        this.incoming = None;
        Poll::Ready(Some(Err(this.share.break_limit(BrokenLimit::Time))))
    }

    fn is_end_stream(&self) -> bool {
        let incoming = self.incoming.as_ref();
        incoming.is_none_or(|(incoming, _)| incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let incoming = self.incoming.as_ref();
        incoming.map_or_else(SizeHint::default, |(incoming, _)| incoming.size_hint())
    }
}

impl Drop for LimitedBody {
    fn drop(&mut self) {
        let Some((incoming, open)) = self.incoming.take() else {
            return;
        };
        if incoming.is_end_stream() {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let tasks = open.tasks().clone();
            let drained = tokio::time::timeout(DRAIN_TIME, drain(incoming, open));
            tasks.spawn_on(drained, &runtime);
        }
    }
}

/// Reads and throws away up to [`DRAIN_BYTES`].
async fn drain(mut incoming: Incoming, _open: OpenBody) {
    let mut left = DRAIN_BYTES;
    while let Some(Ok(frame)) = incoming.frame().await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
