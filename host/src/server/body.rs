//! The body of a request on its way to the guest, within its limits.
//!
//! Bounds its bytes, and the bytes of all bodies together, and remembers how it ended. A body that the
//! guest leaves unread is drained, so that a client that is still sending can read its answer. Its time
//! and its pace are in `arrival`.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use wasmtime_wasi_http::Error as BodyError;

use crate::server::body_reader::{Arrival, Cut};
use crate::server::connection_state::{Activity, OpenBody};
use crate::server::frame_coalescer::Gatherer;
use crate::util::local::Local;

/// The size of a body in bytes up to which it may use all of a [`BodyBudget`]. Of larger ones a few
/// could use it up.
const SMALL_BODY_BYTES: u64 = 64 * 1024;

/// What a body may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    /// The most bytes of a body.
    pub(crate) bytes: u64,
    /// How many more bytes there may be around them than there are of them, such as the sizes of chunks.
    pub(crate) framing_bytes: u64,
    /// The most time from the head of the request to the end of its body.
    pub(crate) time: Duration,
    /// The least bytes in a second, on the average of 5 s.
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
    /// Whether the body was read to its end, and that is where any recipient sees it.
    has_ended: AtomicBool,
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
            has_ended: AtomicBool::new(false),
        })
    }
}

impl BodyShare {
    /// The limit that ended the body, if one did.
    pub(crate) fn broken_limit(&self) -> Option<BrokenLimit> {
        self.broken.get().copied()
    }

    /// Whether the body was read to its end, and had no trailer section. hyper takes sections for one
    /// that end elsewhere for others: see `docs/upstream/hyper-trailers.md`.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
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
    arrival: Option<Arrival>,
    remaining: u64,
    has_trailers: bool,
    share: Arc<BodyShare>,
    /// `None` for a reader that gathers by itself.
    gatherer: Option<Gatherer>,
}

impl LimitedBody {
    pub(crate) fn new(
        request: hyper::Request<Incoming>,
        limits: BodyLimits,
        share: Arc<BodyShare>,
        activity: &Arc<Activity>,
    ) -> hyper::Request<Self> {
        request.map(|incoming| Self {
            arrival: Some(Arrival::new(incoming, OpenBody::new(activity), limits)),
            remaining: limits.bytes,
            has_trailers: false,
            share,
            gatherer: None,
        })
    }

    /// The same for a reader that each frame costs much: many small chunks come as few.
    pub(crate) fn gathered(mut self) -> Self {
        let is_chunked = self.arrival.as_ref().is_some_and(Arrival::is_chunked);
        self.gatherer = is_chunked.then(Gatherer::default);
        self
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

    /// Nothing more is read: of a body that was cut short there is no waiting for the rest, not even
    /// to drain it.
    fn cut(&mut self, cut: Cut) -> BodyError {
        self.arrival = None;
        match cut {
            Cut::Http(error) => BodyError::Hyper(error),
            Cut::Late => self.share.break_limit(BrokenLimit::Time),
            Cut::Framing => self.share.break_limit(BrokenLimit::Bytes),
        }
    }

    fn poll_one(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(arrival) = &mut self.arrival else {
            return Poll::Ready(None);
        };
        Poll::Ready(match ready!(arrival.poll_frame(context)) {
            Some(Ok(frame)) => {
                self.has_trailers |= frame.is_trailers();
                // Where its length was told, there is no waiting for an end.
                if arrival.is_end_stream() {
                    self.end();
                }
                Some(self.admit(frame))
            }
            Some(Err(cut)) => Some(Err(self.cut(cut))),
            None => {
                self.end();
                None
            }
        })
    }

    fn end(&mut self) {
        self.arrival = None;
        let has_ended = !self.has_trailers;
        self.share.has_ended.store(has_ended, Ordering::Relaxed);
    }
}

impl Body for LimitedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(mut gatherer) = self.gatherer.take() else {
            return self.poll_one(context);
        };
        let polled = gatherer.poll(context, |context| self.poll_one(context));
        self.gatherer = Some(gatherer);
        polled
    }

    fn is_end_stream(&self) -> bool {
        let arrival = self.arrival.as_ref();
        let has_gathered = self.gatherer.as_ref().is_some_and(Gatherer::has_frame);
        !has_gathered && arrival.is_none_or(Arrival::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let arrival = self.arrival.as_ref();
        arrival.map_or_else(SizeHint::default, Arrival::size_hint)
    }
}

impl Drop for LimitedBody {
    fn drop(&mut self) {
        if let Some(arrival) = self.arrival.take()
            && !arrival.is_end_stream()
        {
            arrival.drain();
        }
    }
}
