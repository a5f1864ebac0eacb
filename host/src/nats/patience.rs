//! Waits for servers that are starting, or that agree on a new leader.
//!
//! Never for puts: those have a time of their own.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::context::GetStreamErrorKind;
use tokio::time::{Instant, sleep};

/// How long servers are given that do not know the stream yet, or not one another: as long as they
/// take to agree on a leader after a start.
const AGREEMENT_TIME: Duration = Duration::from_secs(15);

/// How long to wait before they are asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// The code of all errors of JetStream that may pass.
const UNAVAILABLE: usize = 503;

/// Asks until there is an answer, an error that does not pass, or no more time.
pub(super) async fn patiently<T, E>(
    may_pass: impl Fn(&E) -> bool,
    ask: impl AsyncFn() -> Result<T, E>,
) -> Result<T, E> {
    let end = Instant::now() + AGREEMENT_TIME;
    loop {
        match ask().await {
            Err(error) if may_pass(&error) && Instant::now() + PAUSE < end => sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

/// Whether what JetStream says may be otherwise in a moment.
pub(super) fn is_passing(error: &jetstream::Error) -> bool {
    error.code() == UNAVAILABLE
}

/// Whether looking at a stream may succeed in a moment.
pub(super) fn look_may_pass(kind: &GetStreamErrorKind) -> bool {
    match kind {
        GetStreamErrorKind::Request => true,
        GetStreamErrorKind::JetStream(error) => is_passing(error),
        GetStreamErrorKind::EmptyName | GetStreamErrorKind::InvalidStreamName => false,
    }
}
