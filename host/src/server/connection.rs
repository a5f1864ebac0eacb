//! One connection: serves its requests with time-outs, responds to bytes that hyper cannot parse, and
//! drains it at the shutdown of the server.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use hyper::Request;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::coop::unconstrained;
use tokio::time::{Sleep, sleep, timeout};

use crate::limits::Limits;
use crate::metrics::server_metrics::ServerMetrics;
use crate::server::access_entry;
use crate::server::connection_limiter::ConnectionLimiter;
use crate::server::connection_state::ConnectionState;
use crate::server::connection_waker::WakerCache;
use crate::server::context::ConnectionContext;
use crate::server::http_io::HttpIo;
use crate::server::instrumented_io::InstrumentedIo;
use crate::server::parse_error;
use crate::server::request_body::RequestBody;
use crate::server::service::PeerService;
use crate::server::shutdown::{Phase, Shutdown};
use crate::util::poll_on_wake::PollOnWake;

/// The size of the read buffer in bytes, and so how much of a body a connection may hold in addition to the
/// reserved bytes. A larger one saves nothing.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// How many times an idle connection is checked until it is closed. Checking each connection from time to
/// time costs less than a timer for each request.
const IDLE_TICKS: u32 = 5;

/// How long a connection without a request waits for one at the shutdown: long enough to read the bytes
/// that the system has received, or that are on their way in the same network.
const ARRIVAL_TIME: Duration = Duration::from_millis(50);

/// How long a connection that is asked to close waits before it does: the shortest time of a timer. The
/// runtime polls sockets before timers, so bytes that have arrived are read first.
const CLOSE_DELAY: Duration = Duration::from_millis(1);

/// How often a draining connection checks whether a request is in service.
const DRAIN_TICK: Duration = Duration::from_millis(500);

/// How many times in a row there must be none until the connection is closed: 1 s at least, for the rest of a
/// header section to arrive, or for the client to read its last response.
const DRAIN_GRACE_TICKS: u32 = 3;

/// How long a connection is read after its last response, if the client may send more.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// How many bytes are read during that time: four times the largest body. On a fast network it could be
/// gigabytes.
const LINGER_BYTES: u64 = 64 * 1024 * 1024;

/// Serves a connection until either side closes it. `connections` is `None` for one that the server has not
/// accepted itself. Returns the stream, unless it lingered after its last response.
pub(crate) async fn serve<S>(
    stream: S,
    context: Arc<ConnectionContext>,
    shutdown: &Shutdown,
    connections: Option<&ConnectionLimiter>,
) -> Option<S>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (state, limits) = (&context.state, &context.server.limits);
    // A client that sees `Connection: close` sends no further request.
    let is_last = || {
        shutdown.has_begun(Phase::Draining)
            || connections.is_some_and(ConnectionLimiter::has_waiting)
    };
    let service = PeerService(Arc::clone(&context));
    let service = service_fn(|request| {
        let service = &service;
        let (mut head, body) = Request::into_parts(request);
        async move {
            state.begin_request();
            let body = RequestBody::Hyper(body);
            let (mut response, end) = service.call(&mut head, body).await;
            if is_last() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            state.end_request(end);
            Ok::<_, Infallible>(response)
        }
    });
    let stream = InstrumentedIo::new(HttpIo::new(stream, state), state);
    let mut connection = http(limits).serve_connection(TokioIo::new(stream), service);
    let metrics = &context.server.metrics;
    let serving = serve_with_timeouts(&mut connection, state, limits, metrics);
    let served = match shutdown.run_until(Phase::Draining, serving).await {
        Some(result) => Some(result),
        None => {
            let draining = drain(Pin::new(&mut connection), state);
            shutdown.run_until(Phase::Aborting, draining).await
        }
    };
    if let Some(Err(error)) = &served {
        tracing::debug!(%error, "a connection ended with an error");
    }
    let parts = connection.into_parts();
    let io = parts.io.into_inner().into_inner();
    let refusal = match served {
        Some(Err(error)) if error.is_parse() && !state.is_write_blocked() => {
            refuse_unparsed(&error, io.withheld(), &parts.read_buf, &context)
        }
        _ => None,
    };
    let mut stream = io.into_inner();
    if refusal.is_some()
        || state.lingers()
        || is_last() && (!parts.read_buf.is_empty() || has_more(&mut stream))
    {
        let lingering = linger(stream, refusal.unwrap_or_default(), state);
        shutdown.run_until(Phase::Aborting, lingering).await;
        return None;
    }
    Some(stream)
}

/// The response to bytes that hyper cannot parse, if one is due. It is counted and logged.
fn refuse_unparsed(
    error: &hyper::Error,
    withheld: &[u8],
    unread: &[u8],
    context: &ConnectionContext,
) -> Option<Vec<u8>> {
    let (server, has_started) = (&context.server, context.state.is_reading_head());
    let info = context.unparsed_info();
    let response = parse_error::response(withheld, unread, has_started, &server.limits, info.id);
    let (status, response) = response?;
    access_entry::log_unparsed(context, &info, status);
    server.refusals.count_parse_error(error, &info, status);
    Some(response)
}

/// Whether bytes can be read without waiting.
fn has_more(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let read = stream.read_u8().now_or_never();
    matches!(read, Some(Ok(_)))
}

/// How many bytes may have been read from a connection and not be parsed yet.
pub(crate) fn read_buffer_bytes(limits: &Limits) -> usize {
    READ_BUFFER_BYTES.max(limits.max_header_bytes as usize)
}

/// The HTTP settings of a connection.
fn http(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    // A client may shut down its side of the connection after its request.
    http.half_close(true)
        // Responses are small: one copy costs less than a list of buffers.
        .writev(false)
        .max_headers(limits.max_headers as usize)
        .max_header_size(limits.max_header_bytes as usize)
        .max_buf_size(read_buffer_bytes(limits));
    http
}

/// Serves a connection until it closes or the client exceeds a time-out.
async fn serve_with_timeouts<C>(
    mut connection: C,
    state: &ConnectionState,
    limits: &Limits,
    metrics: &ServerMetrics,
) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>> + Unpin,
{
    // A flood of bytes uses up the cooperative budget; that must not keep the timers from firing.
    let idleness = pin!(unconstrained(idleness(state, limits.idle_timeout)));
    let mut idleness = PollOnWake::new(idleness);
    // For a header section that did not arrive in one read, with the number of requests before it.
    let mut head_timer: Option<(usize, Pin<Box<Sleep>>)> = None;
    // While the connection is asked to close.
    let mut closing: Option<Pin<Box<Sleep>>> = None;
    let mut is_new = true;
    let mut wakers = WakerCache::default();
    poll_fn(|context| {
        if std::mem::take(&mut is_new) {
            // Once, since a connection stays in one task.
            state.wake_on_close(context);
        }
        let waker = wakers.wrap(context);
        if let Poll::Ready(result) = connection.poll_unpin(&mut Context::from_waker(waker)) {
            return Poll::Ready(result);
        }
        if state.is_asked_to_close() {
            let delay = closing.get_or_insert_with(|| Box::pin(sleep(CLOSE_DELAY)));
            ready!(Pin::new(&mut unconstrained(delay.as_mut())).poll(context));
            if state.idle_since_ms().is_some() {
                metrics.connections_evicted.increment();
                tracing::debug!("an idle connection was closed for a new one");
                return Poll::Ready(Ok(()));
            }
            closing = None;
            state.decline_close(context);
        }
        if idleness.poll_unpin(context).is_ready() {
            metrics.connections_timed_out.increment();
            return Poll::Ready(Ok(()));
        }
        if !state.is_reading_head() {
            return Poll::Pending;
        }
        let number = state.requests_started();
        let timer = match &mut head_timer {
            Some((request, timer)) if *request == number => timer,
            other => {
                let timer = Box::pin(sleep(limits.header_read_timeout));
                &mut other.insert((number, timer)).1
            }
        };
        ready!(Pin::new(&mut unconstrained(timer.as_mut())).poll(context));
        tracing::debug!("the header section of a request did not arrive in time");
        Poll::Ready(Ok(()))
    })
    .await
}

/// Completes once the connection has been idle for `idle_timeout`.
async fn idleness(state: &ConnectionState, idle_timeout: Duration) {
    let (mut ticks, mut seen) = (0, 0);
    while ticks < IDLE_TICKS {
        sleep(idle_timeout / IDLE_TICKS).await;
        let started = state.requests_started();
        let is_idle = !state.is_busy() && !state.is_reading_head() && started == seen;
        ticks = if is_idle { ticks + 1 } else { 0 };
        seen = started;
    }
}

/// Closes a connection after the response to its last request, or soon if there is no request.
async fn drain<C>(mut connection: Pin<&mut C>, state: &ConnectionState) -> hyper::Result<()>
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let (mut tick, mut idle_ticks) = (ARRIVAL_TIME, 0);
    while idle_ticks < DRAIN_GRACE_TICKS {
        let ticking = unconstrained(sleep(tick));
        if let Either::Left((result, _)) = select(connection.as_mut(), pin!(ticking)).await {
            return result;
        }
        // hyper would drop a header section that has arrived in part.
        if !state.is_reading_head() {
            connection.as_mut().graceful_shutdown();
        }
        idle_ticks = if state.is_busy() || state.is_responding() {
            0
        } else {
            idle_ticks + 1
        };
        tick = DRAIN_TICK;
    }
    Ok(())
}

/// Writes `last`, then reads and discards bytes for a while: a connection that is closed while the client sends
/// is reset, and the client may never read its response. Ends early if the connection is asked to close.
pub(crate) async fn linger(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    last: Vec<u8>,
    state: &ConnectionState,
) {
    let lingering = async {
        stream.write_all(&last).await?;
        stream.shutdown().await?;
        let mut rest = (&mut stream).take(LINGER_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    state.begin_lingering();
    let asked = poll_fn(|context| {
        state.wake_on_close(context);
        if state.is_asked_to_close() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    let lingering = pin!(timeout(LINGER_TIME, lingering));
    match select(lingering, asked).await {
        Either::Left((Ok(Err(error)), _)) => {
            tracing::debug!(%error, "a client closed its connection before it read its response");
        }
        Either::Left(_) => {}
        Either::Right(_) => tracing::debug!("a lingering connection was closed for a new one"),
    }
}
