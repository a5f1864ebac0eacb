//! The body of a request, within its limits.
//!
//! Limits the bytes of a body, and of all bodies together, and records how the body ended. A body that the
//! guest leaves unread is drained, so that a client that is still sending can read its response. Time-outs
//! and rate are enforced by `body_reader`.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::Error as BodyError;

use crate::server::body_quota::BodyLimits;
use crate::server::body_reader::{BodyReader, ReadError};
use crate::server::context::ConnectionContext;
use crate::server::frame_coalescer::FrameCoalescer;
use crate::server::request_body::RequestBody;

/// The most memory that is reserved for a body of announced length, as a multiple of its bytes that have arrived. The
/// memory that is copied until then is a small part of it.
const MAX_RESERVED_RATIO: usize = 32;

/// The bytes that one request has reserved of the quota for bodies, until this is dropped.
pub(crate) struct BodyReservation {
    context: Arc<ConnectionContext>,
    bytes: AtomicU64,
    exceeded: OnceLock<LimitExceeded>,
    has_ended: AtomicBool,
    /// Whether it was read to its end, with or without a trailer section.
    is_read: AtomicBool,
}

/// A limit that ended a body. The guest only sees that the body ended with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LimitExceeded {
    /// [`BodyLimits::bytes`] or [`BodyLimits::framing_bytes`].
    Bytes,
    /// A limit of the program that embeds the server.
    OuterBytes,
    /// [`BodyLimits::timeout`] or [`BodyLimits::min_rate`].
    Time,
    /// The quota for all bodies.
    Quota,
}

impl BodyReservation {
    pub(crate) fn new(context: &Arc<ConnectionContext>) -> Arc<Self> {
        Arc::new(Self {
            context: Arc::clone(context),
            bytes: AtomicU64::new(0),
            exceeded: OnceLock::new(),
            has_ended: AtomicBool::new(false),
            is_read: AtomicBool::new(false),
        })
    }

    /// The context of the connection.
    pub(crate) fn context(&self) -> &ConnectionContext {
        &self.context
    }

    /// The bytes that were received.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The limit that ended the body, if one did.
    pub(crate) fn limit_exceeded(&self) -> Option<LimitExceeded> {
        self.exceeded.get().copied()
    }

    /// Whether the body was read to its end and had no trailer section, whose end hyper and other
    /// recipients may see in different places: see `docs/upstream/hyper-trailers.md`.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    /// Whether the body was read to its end. Before that nothing is put.
    pub(crate) fn is_read(&self) -> bool {
        self.is_read.load(Ordering::Relaxed)
    }

    /// Records the first limit that was exceeded, and makes the error that ends the body.
    fn exceed(&self, limit: LimitExceeded) -> BodyError {
        let _ = self.exceeded.set(limit);
        match limit {
            LimitExceeded::Bytes | LimitExceeded::OuterBytes => {
                BodyError::HttpRequestBodySize(None)
            }
            LimitExceeded::Time => BodyError::ConnectionReadTimeout,
            LimitExceeded::Quota => BodyError::ConnectionLimitReached,
        }
    }

    fn try_reserve(&self, bytes: u64) -> bool {
        let total = self.bytes.load(Ordering::Relaxed).saturating_add(bytes);
        let is_reserved = self.context.server.body_quota.try_reserve(bytes, total);
        if is_reserved {
            self.bytes.store(total, Ordering::Relaxed);
        }
        is_reserved
    }
}

impl Drop for BodyReservation {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        let server = &self.context.server;
        server.body_quota.release(bytes);
        server.metrics.shard().count_body_bytes(bytes);
    }
}

/// A body that ends with an error once it exceeds a limit.
pub(crate) struct LimitedBody {
    /// `None` once nothing more of it is to be read.
    reader: Option<BodyReader>,
    remaining: u64,
    has_trailers: bool,
    reservation: Arc<BodyReservation>,
    /// `None` for a recipient that collects the frames itself.
    coalescer: Option<Box<FrameCoalescer>>,
}

impl LimitedBody {
    pub(crate) fn new(
        incoming: RequestBody,
        limits: BodyLimits,
        reservation: Arc<BodyReservation>,
    ) -> Self {
        let state = &reservation.context.state;
        Self {
            reader: Some(BodyReader::new(incoming, state, limits)),
            remaining: limits.bytes,
            has_trailers: false,
            reservation,
            coalescer: None,
        }
    }

    /// Takes what has not been read, with small chunks coalesced: for a recipient to which each frame is expensive, and
    /// which may read on after its response.
    pub(crate) fn take_coalesced(&mut self) -> Self {
        let mut reader = self.reader.take();
        if let Some(reader) = &mut reader {
            reader.keep_busy(&self.reservation.context.state);
        }
        let is_chunked = reader.as_ref().is_some_and(BodyReader::is_chunked);
        Self {
            reader,
            remaining: self.remaining,
            has_trailers: self.has_trailers,
            reservation: Arc::clone(&self.reservation),
            coalescer: is_chunked.then(Box::default),
        }
    }

    /// Reads all data of the body.
    ///
    /// # Errors
    ///
    /// When the body ends early.
    pub(crate) async fn collect(&mut self) -> Result<Bytes, BodyError> {
        let first = self.next_data().await?.unwrap_or_default();
        // Most bodies arrive as one frame.
        let Some(second) = self.next_data().await? else {
            return Ok(first);
        };
        let mut collected = Vec::from(first);
        let mut next = Some(second);
        while let Some(data) = next {
            self.reserve(&mut collected, data.len());
            collected.extend_from_slice(&data);
            next = self.next_data().await?;
        }
        Ok(collected.into())
    }

    /// Reserves memory for the rest of a body of announced length, so that it is not copied each time that its memory
    /// doubles. The next bytes of it have arrived.
    fn reserve(&self, collected: &mut Vec<u8>, next: usize) {
        // A chunked body has no such length, nor has one that has arrived.
        let Some(rest) = self.size_hint().exact() else {
            return;
        };
        let rest = usize::try_from(rest.min(self.remaining)).unwrap_or(usize::MAX);
        let rest = next.saturating_add(rest);
        let arrived = collected.len() + next;
        let is_too_small = collected.capacity() - collected.len() < rest;
        if is_too_small && rest <= arrived.saturating_mul(MAX_RESERVED_RATIO) {
            // If this fails, the body grows as it arrives.
            let _ = collected.try_reserve_exact(rest);
        }
    }

    async fn next_data(&mut self) -> Result<Option<Bytes>, BodyError> {
        let frame = self.frame().await.transpose()?;
        // Trailers are the last frame.
        Ok(frame.and_then(|frame| frame.into_data().ok()))
    }

    /// Counts a frame, if it is within the limits.
    fn admit(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        let Some(remaining) = self.remaining.checked_sub(bytes) else {
            return Err(self.reservation.exceed(LimitExceeded::Bytes));
        };
        self.remaining = remaining;
        if self.reservation.try_reserve(bytes) {
            Ok(frame)
        } else {
            Err(self.reservation.exceed(LimitExceeded::Quota))
        }
    }

    /// Ends a body that ended early. The rest of it is not read, not even to be drained.
    fn fail(&mut self, error: ReadError) -> BodyError {
        self.reader = None;
        match error {
            ReadError::Http(BodyError::HttpRequestBodySize(_)) => {
                self.reservation.exceed(LimitExceeded::OuterBytes)
            }
            ReadError::Http(error) => error,
            ReadError::TimedOut => self.reservation.exceed(LimitExceeded::Time),
            ReadError::Framing => self.reservation.exceed(LimitExceeded::Bytes),
        }
    }

    fn poll_one(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(reader) = &mut self.reader else {
            return Poll::Ready(None);
        };
        let state = &self.reservation.context.state;
        Poll::Ready(match ready!(reader.poll_frame(state, context)) {
            Some(Ok(frame)) => {
                self.has_trailers |= frame.is_trailers();
                // After the announced length, or trailers, no further frame is awaited.
                if self.has_trailers || reader.is_end_stream() {
                    self.end();
                }
                Some(self.admit(frame))
            }
            Some(Err(error)) => Some(Err(self.fail(error))),
            None => {
                self.end();
                None
            }
        })
    }

    fn end(&mut self) {
        self.reader = None;
        self.reservation.is_read.store(true, Ordering::Relaxed);
        let has_ended = !self.has_trailers;
        self.reservation
            .has_ended
            .store(has_ended, Ordering::Relaxed);
    }
}

impl Body for LimitedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(mut coalescer) = self.coalescer.take() else {
            return self.poll_one(context);
        };
        let polled = coalescer.poll(context, |context| self.poll_one(context));
        self.coalescer = Some(coalescer);
        polled
    }

    fn is_end_stream(&self) -> bool {
        let reader = self.reader.as_ref();
        let has_coalesced = self
            .coalescer
            .as_ref()
            .is_some_and(|coalescer| coalescer.has_frame());
        !has_coalesced && reader.is_none_or(BodyReader::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let reader = self.reader.as_ref();
        reader.map_or_else(SizeHint::default, BodyReader::size_hint)
    }
}

impl Drop for LimitedBody {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take()
            && !reader.is_end_stream()
        {
            reader.drain(&self.reservation.context.state);
        }
    }
}
