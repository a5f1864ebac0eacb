//! Retries requests to JetStream while servers are starting or electing a leader.
//!
//! Puts have a time limit of their own: see `sink`.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::context::GetStreamErrorKind;
use tokio::time::{Instant, sleep};

/// How long a peer that starts retries: servers that are started together with it elect a leader in 4 to 9 s, and on
/// a busy machine in more.
const START_TIME: Duration = Duration::from_secs(30);

/// How long a command that reads retries: for an election, and for servers that do not know the stream yet.
const COMMAND_TIME: Duration = Duration::from_secs(15);

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// The status code of all JetStream errors that may be transient.
const UNAVAILABLE: usize = 503;

/// Until when requests are retried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retry {
    deadline: Instant,
}

impl Retry {
    /// For a peer that starts.
    pub(super) fn at_start() -> Self {
        Self {
            deadline: Instant::now() + START_TIME,
        }
    }

    /// For a command that reads.
    pub(super) fn of_command() -> Self {
        Self {
            deadline: Instant::now() + COMMAND_TIME,
        }
    }

    /// Runs `request` until it succeeds, fails with an error that is not transient, or the deadline has passed. The
    /// time-out of one request, which `connection` sets, has to be shorter than that.
    pub(super) async fn run<T, E, F: Future<Output = Result<T, E>>>(
        self,
        is_transient: impl Fn(&E) -> bool,
        request: impl Fn() -> F,
    ) -> Result<T, E> {
        loop {
            match request().await {
                Err(error) if is_transient(&error) && Instant::now() + PAUSE < self.deadline => {
                    sleep(PAUSE).await;
                }
                result => return result,
            }
        }
    }
}

/// What to do about replicas that elect no leader.
pub(super) const NO_QUORUM_ADVICE: &str = "; more than half of the replicas can't be reached, or the servers are \
     full and have turned JetStream off: give them room, and start them again";

/// What to do about an error that was expected to be transient, and was not.
pub(super) fn advice(error: &jetstream::Error) -> &'static str {
    if is_transient(error) {
        NO_QUORUM_ADVICE
    } else {
        ""
    }
}

/// Whether the same request may succeed in a moment.
pub(super) fn is_transient(error: &jetstream::Error) -> bool {
    error.code() == UNAVAILABLE
}

/// Whether a request for the state of a stream may succeed in a moment.
pub(super) fn is_transient_lookup(kind: &GetStreamErrorKind) -> bool {
    match kind {
        GetStreamErrorKind::Request => true,
        GetStreamErrorKind::JetStream(error) => is_transient(error),
        GetStreamErrorKind::EmptyName | GetStreamErrorKind::InvalidStreamName => false,
    }
}
