//! What a connection does before HTTP: a header of the PROXY protocol, a TLS handshake.
//!
//! A connection in its preamble counts like any other. Until its first byte it is idle, and may be closed for a new
//! one; then it is like one whose header section arrives.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::timeout;

use crate::server::connection_state::ConnectionState;
use crate::server::context::ConnectionContext;
use crate::server::shutdown::{Phase, Shutdown};

/// How long a preamble may take once the server drains: a few round trips.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// The end of a preamble.
pub(crate) enum Preamble<T> {
    Done(T),
    /// It has exceeded the time for a header section.
    TimedOut,
    /// The connection was idle, and is closed for a new one.
    Evicted,
}

/// Runs a preamble within its limits. `None` if the server closes before its end.
pub(crate) async fn run<T>(
    context: &ConnectionContext,
    shutdown: &Shutdown,
    preamble: impl Future<Output = T>,
) -> Option<Preamble<T>> {
    let (state, limits) = (&context.state, &context.server.limits);
    let preamble = pin!(timeout(limits.header_read_timeout, preamble));
    let asked = pin!(closed_for_another(state));
    let mut preamble = select(preamble, asked);
    let ended = match shutdown.run_until(Phase::Draining, &mut preamble).await {
        Some(ended) => Some(ended),
        None => {
            let rest = shutdown.run_until(Phase::Aborting, preamble);
            timeout(DRAIN_TIME, rest).await.ok().flatten()
        }
    };
    Some(match ended? {
        Either::Left((Ok(done), _)) => Preamble::Done(done),
        Either::Left((Err(_elapsed), _)) => Preamble::TimedOut,
        Either::Right(_) => {
            context.server.metrics.connections_evicted.increment();
            tracing::debug!("a connection without a request was closed for a new one");
            Preamble::Evicted
        }
    })
}

/// Completes once an idle connection is asked to close.
async fn closed_for_another(state: &ConnectionState) {
    poll_fn(|context| {
        state.wake_on_close(context);
        if !state.is_asked_to_close() {
            return Poll::Pending;
        }
        if state.idle_since_ms().is_some() {
            return Poll::Ready(());
        }
        state.decline_close(context);
        Poll::Pending
    })
    .await;
}
