//! Reads a request body with a time-out, a minimum rate, and a limit on chunk framing.
//!
//! The memory of a body is limited in `body`.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::runtime::Handle;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};
use wasmtime_wasi_http::Error as BodyError;

use crate::server::body_quota::BodyLimits;
use crate::server::connection_state::{ConnectionState, OpenBody};
use crate::server::request_body::RequestBody;

/// The interval over which the rate of a body is averaged: lost packets are retransmitted within it.
const RATE_INTERVAL: Duration = Duration::from_secs(5);

/// How long a late body is still read while more of it is available: the data that arrived while the server
/// was stopped is in the socket's buffer, and is read in less.
const GRACE_PERIOD: Duration = Duration::from_secs(1);

/// How many read buffers of framing there may be in addition to as much framing as data. Bytes that were read
/// ahead count as framing until hyper has parsed them. The rest allows bodies of some 50,000 bytes in
/// chunks of one byte, each of which costs as much as hundreds of bytes of data.
pub(crate) const FRAMING_BUFFERS: u64 = 4;

/// How many bytes of a refused body are read and discarded: four times the largest body. During the time-out of
/// bodies it could be gigabytes.
const DRAIN_BYTES: u64 = 64 * 1024 * 1024;

/// Reads a body that has not ended.
pub(crate) struct BodyReader {
    incoming: RequestBody,
    /// `None` while the request is in service, which keeps its connection busy.
    open: Option<OpenBody>,
    limits: BodyLimits,
    /// The bytes of data that were read.
    data: u64,
    /// The bytes that were read from the connection before the body.
    received_before: u64,
    /// Set once the body has to be waited for: most arrive with the header section.
    deadline: Option<Box<ReadDeadline>>,
}

/// Why a body ended early.
pub(crate) enum ReadError {
    /// The connection was lost, or a chunk is malformed, or the program that embeds the server has ended it.
    Http(BodyError),
    /// It exceeded its time-out, or was slower than its minimum rate.
    TimedOut,
    /// It has too much chunk framing for its data.
    Framing,
}

/// When the rest of a body has to have arrived.
struct ReadDeadline {
    /// For all of it; `None` if the clock cannot represent it.
    end: Option<Instant>,
    /// For as much of it as the minimum rate requires.
    rate_end: Instant,
    /// The bytes that had arrived when the rate was last checked.
    arrived: u64,
    timer: Pin<Box<Sleep>>,
    /// The time since which it is late. More data may have arrived unnoticed.
    late_since: Option<Instant>,
    /// Whether some arrived since the last check that found it late.
    has_progressed: bool,
}

impl BodyReader {
    /// A reader of a body on the connection with this `state`, which is that of every call.
    pub(crate) fn new(incoming: RequestBody, state: &ConnectionState, limits: BodyLimits) -> Self {
        Self {
            incoming,
            open: None,
            limits,
            data: 0,
            received_before: state.received(),
            deadline: None,
        }
    }

    /// Keeps the connection busy until this is dropped, also after the response.
    pub(crate) fn keep_busy(&mut self, state: &Arc<ConnectionState>) {
        self.open.get_or_insert_with(|| OpenBody::new(state));
    }

    pub(crate) fn is_chunked(&self) -> bool {
        self.incoming.size_hint().exact().is_none()
    }

    /// Whether all of the announced length was read.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    pub(crate) fn poll_frame(
        &mut self,
        state: &ConnectionState,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) {
            let frame = frame.map(|frame| frame.map_err(ReadError::Http));
            if let Some(Ok(frame)) = &frame {
                self.data += frame.data_ref().map_or(0, Bytes::len) as u64;
                if let Some(deadline) = &mut self.deadline {
                    deadline.has_progressed = true;
                }
            }
            return Poll::Ready(frame);
        }
        if self.is_chunked() {
            let most = self.max_received();
            state.wake_body_beyond(most, context);
            if state.received() > most {
                return Poll::Ready(Some(Err(ReadError::Framing)));
            }
        }
        let limits = self.limits;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::new(ReadDeadline::begin(limits)));
        ready!(deadline.poll_late(self.data, limits, context));
        Poll::Ready(Some(Err(ReadError::TimedOut)))
    }

    /// How many bytes may have been read from the connection by now: the data, and the framing, which may be
    /// as much and some more. Up to a read buffer of them may belong to the bytes after the body.
    fn max_received(&self) -> u64 {
        let framing = self.limits.framing_bytes.saturating_add(self.data);
        let body = framing.saturating_add(self.data);
        self.received_before.saturating_add(body)
    }

    /// Reads and discards the rest for as long as the time-out allows, and up to [`DRAIN_BYTES`], so that a client or
    /// a proxy that reads only after it has sent everything gets its response.
    pub(crate) fn drain(mut self, state: &Arc<ConnectionState>) {
        if let Ok(runtime) = Handle::try_current() {
            self.keep_busy(state);
            let (state, tasks) = (Arc::clone(state), state.tasks().clone());
            let drained = async move {
                let end = self.data.saturating_add(DRAIN_BYTES);
                // hyper may announce the end of a body only with the next request.
                while self.data < end
                    && !self.is_end_stream()
                    && let Some(Ok(_)) = poll_fn(|context| self.poll_frame(&state, context)).await
                {
                }
            };
            tasks.spawn_on(drained, &runtime);
        }
    }
}

impl ReadDeadline {
    fn begin(limits: BodyLimits) -> Self {
        let now = Instant::now();
        Self {
            end: now.checked_add(limits.timeout),
            rate_end: now + RATE_INTERVAL,
            arrived: 0,
            timer: Box::pin(sleep_until(now)),
            late_since: None,
            has_progressed: false,
        }
    }

    /// Ready once a body of which `arrived` bytes have arrived is late.
    fn poll_late(
        &mut self,
        arrived: u64,
        limits: BodyLimits,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            let rate_end = limits.min_rate.map(|_| self.rate_end);
            let Some(deadline) = self.end.into_iter().chain(rate_end).min() else {
                return Poll::Pending;
            };
            if self.timer.deadline() != deadline {
                self.timer.as_mut().reset(deadline);
            }
            // A flood of bytes uses up the cooperative budget; that must not keep the timer from firing.
            ready!(Pin::new(&mut unconstrained(self.timer.as_mut())).poll(context));
            let is_timed_out = self.end.is_some_and(|end| end <= deadline);
            let least = limits
                .min_rate
                .map_or(0, |rate| rate.get().saturating_mul(RATE_INTERVAL.as_secs()));
            let now = Instant::now();
            if !is_timed_out && arrived - self.arrived >= least {
                self.arrived = arrived;
                self.rate_end = now + RATE_INTERVAL;
                self.late_since = None;
                continue;
            }
            // After the server was stopped, the timer fires before the data that arrived is seen.
            match self.late_since {
                Some(since) if !self.has_progressed || now >= since + GRACE_PERIOD => {
                    return Poll::Ready(());
                }
                _ => {
                    self.late_since.get_or_insert(now);
                    self.has_progressed = false;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{poll_fn, ready};
    use std::num::NonZeroU64;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::Poll;
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use futures_util::future::{Either, select};
    use http_body_util::Empty;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::task::{consume_budget, yield_now};
    use tokio::time::{Instant, advance, timeout};

    use super::{BodyReader, GRACE_PERIOD, RATE_INTERVAL, ReadDeadline};
    use crate::server::body_quota::BodyLimits;
    use crate::server::connection_state::ConnectionState;
    use crate::server::request_body::RequestBody;

    const LIMITS: BodyLimits = BodyLimits {
        bytes: 1000,
        framing_bytes: 1000,
        timeout: Duration::from_secs(30),
        min_rate: NonZeroU64::new(100),
    };

    /// The next request may never come.
    #[tokio::test]
    async fn drained_body_ends_with_its_last_byte() {
        let limits = BodyLimits {
            min_rate: None,
            ..LIMITS
        };
        let state = Arc::new(ConnectionState::default());
        let (near, mut far) = duplex(1024);
        let service = service_fn(|request| {
            let body = RequestBody::Hyper(Request::into_body(request));
            BodyReader::new(body, &state, limits).drain(&state);
            ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(near), service);
        let client = async {
            let head = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n";
            far.write_all(head).await.expect("writes");
            far.read_u8().await.expect("responds");
            assert!(state.is_busy());
            far.write_all(b"body").await.expect("writes");
            while state.is_busy() {
                yield_now().await;
            }
        };
        let client = pin!(client);
        let served = select(connection, client);
        let served = timeout(limits.timeout / 3, served).await;
        let served = served.expect("the drained body ends");
        assert!(matches!(served, Either::Right(_)));
    }

    /// Uses up the cooperative budget, as a flood of bytes does.
    async fn use_up_budget() {
        while consume_budget().now_or_never().is_some() {}
    }

    #[tokio::test(start_paused = true)]
    async fn late_body_ends_in_task_that_never_waits() {
        let mut deadline = ReadDeadline::begin(LIMITS);
        let mut begin = pin!(poll_fn(|context| deadline.poll_late(0, LIMITS, context)));
        assert!(begin.as_mut().now_or_never().is_none());
        advance(RATE_INTERVAL).await;
        use_up_budget().await;
        // Data that has arrived since is read once more.
        assert!(begin.as_mut().now_or_never().is_none());
        use_up_budget().await;
        assert!(begin.as_mut().now_or_never().is_some());
    }

    /// Data that keeps arriving extends the time by the grace period at most.
    #[tokio::test(start_paused = true)]
    async fn late_data_extends_time_by_grace_period() {
        let mut deadline = ReadDeadline::begin(LIMITS);
        advance(LIMITS.timeout).await;
        let start = Instant::now();
        let mut arrived = 0;
        poll_fn(|context| {
            arrived += 1;
            deadline.has_progressed = true;
            deadline.poll_late(arrived, LIMITS, context)
        })
        .now_or_never();
        while start.elapsed() < GRACE_PERIOD {
            advance(Duration::from_millis(100)).await;
            arrived += 1;
            deadline.has_progressed = true;
            let late = poll_fn(|context| Poll::Ready(deadline.poll_late(arrived, LIMITS, context)));
            let is_late = late.await.is_ready();
            assert_eq!(is_late, start.elapsed() >= GRACE_PERIOD);
        }
    }
}
