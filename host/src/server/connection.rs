//! One connection: served request by request, and ended when it has lasted long enough.
//!
//! Watches its time, and what hyper refuses by itself. Never looks into a request: that is
//! `handler`'s.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::coop::unconstrained;
use tokio::time::{Sleep, sleep, timeout};

use crate::limits::Limits;
use crate::server::connection_limiter::Connections;
use crate::server::connection_state::{Activity, Observed};
use crate::server::http_io::HttpIo;
use crate::server::parse_error;
use crate::server::service::Handler;
use crate::server::shutdown::{Closing, Phase};

/// How much is read of a body at a time, in bytes, and so what a connection may hold of one beside
/// what was counted: more saves nothing any more.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// In how many looks an idle connection is found to be idle. A look at each connection now and then
/// costs less than a timer for each request.
const IDLE_TICKS: u32 = 5;

/// How long a connection without a request still waits for one when its server closes: what the system
/// has received by then is read, and a request that is on its way in the same network.
const ARRIVAL_TIME: Duration = Duration::from_millis(50);

/// How long a connection that is asked to end waits before it does: the shortest that a timer takes. The
/// runtime looks at its sockets before its timers, so that what has arrived is read first.
const ASKED_TIME: Duration = Duration::from_millis(1);

/// How often a closing server looks whether a connection has a request in service.
const CLOSING_TICK: Duration = Duration::from_millis(500);

/// How many times in a row it must have none to be ended: 1 s at least, for the rest of a head that
/// is on its way, or for a client to read its last answer.
const CLOSING_GRACE_TICKS: u32 = 3;

/// How long is still read after the last answer of a connection, where its client may send more.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// How many bytes are read meanwhile: four times the largest body. A client on a fast network could have
/// gigabytes read.
const LINGER_BYTES: u64 = 64 * 1024 * 1024;

/// Serves a connection until either side ends it. It may be one of `connections`.
pub(crate) async fn serve<S>(
    stream: S,
    handler: Handler,
    closing: &Closing,
    limits: &Limits,
    connections: Option<&Connections>,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let activity = Arc::clone(&handler.activity);
    let refusals = Arc::clone(&handler.refusals);
    // A client that is told sends no further request into a connection that ends.
    let is_last =
        || closing.has_begun(Phase::Closing) || connections.is_some_and(Connections::is_crowded);
    let service = service_fn(|request| {
        let handler = &handler;
        async move {
            handler.activity.begin_request();
            let mut answer = handler.handle(request).await;
            if is_last() {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(CONNECTION, close);
            }
            handler.activity.end_request();
            Ok::<_, Infallible>(answer)
        }
    });
    let stream = Observed::new(HttpIo::new(stream, &activity), &activity);
    let stream = TokioIo::new(stream);
    let mut connection = http(limits).serve_connection(stream, service);
    let serving = in_time(&mut connection, &activity, limits);
    let served = match closing.unless(Phase::Closing, serving).await {
        Some(result) => Some(result),
        None => {
            let ending = end(Pin::new(&mut connection), &activity);
            closing.unless(Phase::Aborting, ending).await
        }
    };
    if let Some(Err(error)) = &served {
        tracing::debug!(%error, "a connection ended with an error");
    }
    let parts = connection.into_parts();
    let io = parts.io.into_inner().into_inner();
    let refusal = match served {
        Some(Err(error)) if error.is_parse() && !activity.is_write_blocked() => {
            let has_begun = activity.has_half_head();
            let answer = parse_error::answer(io.withheld(), &parts.read_buf, has_begun, limits);
            answer.map(|(status, answer)| {
                refusals.count_parse_error(&error, status);
                answer
            })
        }
        _ => None,
    };
    let mut stream = io.into_inner();
    if refusal.is_some()
        || activity.lingers()
        || is_last() && (!parts.read_buf.is_empty() || has_more(&mut stream))
    {
        let ending = linger(stream, refusal.unwrap_or_default(), &activity);
        closing.unless(Phase::Aborting, ending).await;
    }
}

/// Whether there is something to be read.
fn has_more(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let read = stream.read_u8().now_or_never();
    matches!(read, Some(Ok(_)))
}

/// How much of a connection may be read and not be taken yet, in bytes.
pub(crate) fn read_buffer_bytes(limits: &Limits) -> usize {
    READ_BUFFER_BYTES.max(limits.max_header_bytes as usize)
}

/// How HTTP is spoken.
fn http(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    // A client may end its side of the connection once it has sent its request.
    http.half_close(true)
        // Answers are small: one copy costs less than a list of buffers.
        .writev(false)
        .max_headers(limits.max_headers as usize)
        .max_header_size(limits.max_header_bytes as usize)
        .max_buf_size(read_buffer_bytes(limits));
    http
}

/// Serves a connection as long as its client takes no longer than it may.
async fn in_time<C>(mut connection: C, activity: &Activity, limits: &Limits) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>> + Unpin,
{
    // Who floods the connection uses up what this task may do at a time, but no time.
    let mut idleness = pin!(unconstrained(idleness(activity, limits.idle_timeout)));
    // That of a head which did not come as a whole, with the number of requests before it.
    let mut head_timer: Option<(usize, Pin<Box<Sleep>>)> = None;
    // While it is asked to end.
    let mut ending: Option<Pin<Box<Sleep>>> = None;
    let mut is_new = true;
    poll_fn(|context| {
        if std::mem::take(&mut is_new) {
            // The task stays the same.
            activity.wake_to_end(context);
        }
        if let Poll::Ready(result) = connection.poll_unpin(context) {
            return Poll::Ready(result);
        }
        if activity.is_asked_to_end() {
            let arrival = ending.get_or_insert_with(|| Box::pin(sleep(ASKED_TIME)));
            ready!(Pin::new(&mut unconstrained(arrival.as_mut())).poll(context));
            if activity.idle_since_ms().is_some() {
                tracing::debug!("an idle connection made room for another");
                return Poll::Ready(Ok(()));
            }
            ending = None;
            activity.decline_end(context);
        }
        if idleness.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !activity.has_half_head() {
            return Poll::Pending;
        }
        let number = activity.begun();
        let timer = match &mut head_timer {
            Some((of, timer)) if *of == number => timer,
            other => {
                let timer = Box::pin(sleep(limits.header_read_timeout));
                &mut other.insert((number, timer)).1
            }
        };
        ready!(Pin::new(&mut unconstrained(timer.as_mut())).poll(context));
        tracing::debug!("the head of a request did not arrive in time");
        Poll::Ready(Ok(()))
    })
    .await
}

/// Ready when there was no request for as long as a connection may be idle.
async fn idleness(activity: &Activity, idle_timeout: Duration) {
    let (mut ticks, mut seen) = (0, 0);
    while ticks < IDLE_TICKS {
        sleep(idle_timeout / IDLE_TICKS).await;
        let begun = activity.begun();
        let is_idle = !activity.is_busy() && !activity.has_half_head() && begun == seen;
        ticks = if is_idle { ticks + 1 } else { 0 };
        seen = begun;
    }
}

/// Ends a connection once its last request is answered, or soon where it has none.
async fn end<C>(mut connection: Pin<&mut C>, activity: &Activity) -> hyper::Result<()>
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let (mut tick, mut idle_ticks) = (ARRIVAL_TIME, 0);
    while idle_ticks < CLOSING_GRACE_TICKS {
        let ticking = unconstrained(sleep(tick));
        if let Either::Left((result, _)) = select(connection.as_mut(), pin!(ticking)).await {
            return result;
        }
        // hyper would drop a head of which it has a part.
        if !activity.has_half_head() {
            connection.as_mut().graceful_shutdown();
        }
        idle_ticks = if activity.is_busy() || activity.is_answering() {
            0
        } else {
            idle_ticks + 1
        };
        tick = CLOSING_TICK;
    }
    Ok(())
}

/// Says the last word, then reads on for a while, and throws it away: a connection that is closed while
/// its client sends is reset, and the client may never read what it was answered. Ends early when it
/// is asked to.
async fn linger(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    last: Vec<u8>,
    activity: &Activity,
) {
    let lingering = async {
        stream.write_all(&last).await?;
        stream.shutdown().await?;
        let mut rest = (&mut stream).take(LINGER_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    activity.begin_lingering();
    let asked = poll_fn(|context| {
        activity.wake_to_end(context);
        if activity.is_asked_to_end() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    let lingering = pin!(timeout(LINGER_TIME, lingering));
    match select(lingering, asked).await {
        Either::Left((Ok(Err(error)), _)) => {
            tracing::debug!(%error, "a client was gone before it could read its answer");
        }
        Either::Left(_) => {}
        Either::Right(_) => tracing::debug!("a lingering connection made room for another"),
    }
}
