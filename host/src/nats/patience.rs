//! Waits for servers that are starting, or that agree on a new leader.
//!
//! Never for puts: those have a time of their own.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::context::GetStreamErrorKind;
use tokio::time::{Instant, sleep};

/// How long a server that starts waits for servers that are started together with it: to be there, to
/// agree on a leader, which takes 4 to 9 s, and on a busy machine more.
const START_TIME: Duration = Duration::from_secs(30);

/// How long commands wait for servers that do not know the stream yet, or not one another.
const READ_TIME: Duration = Duration::from_secs(15);

/// How long to wait before they are asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// The code of all errors of JetStream that may pass.
const UNAVAILABLE: usize = 503;

/// Until when servers are asked that may answer otherwise in a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    end: Instant,
}

impl Patience {
    /// That of a server that starts.
    pub(super) fn of_start() -> Self {
        Self {
            end: Instant::now() + START_TIME,
        }
    }

    /// That of a command.
    pub(super) fn of_read() -> Self {
        Self {
            end: Instant::now() + READ_TIME,
        }
    }

    /// Asks until there is an answer, an error that does not pass, or no more time. How long it waits for
    /// one answer is not its affair, but that one which is not answered at all must leave time for another
    /// is: see `connection`.
    pub(super) async fn ask<T, E, F: Future<Output = Result<T, E>>>(
        self,
        may_pass: impl Fn(&E) -> bool,
        ask: impl Fn() -> F,
    ) -> Result<T, E> {
        loop {
            match ask().await {
                Err(error) if may_pass(&error) && Instant::now() + PAUSE < self.end => {
                    sleep(PAUSE).await;
                }
                answer => return answer,
            }
        }
    }
}

/// What to do about replicas that do not agree on a leader.
pub(super) const NO_QUORUM_ADVICE: &str = "; more than half of the replicas can't be reached, or the servers are \
     full and have turned JetStream off: give them room, and start them again";

/// What to do about an error that does not pass after all.
pub(super) fn advice(error: &jetstream::Error) -> &'static str {
    match is_passing(error) {
        true => NO_QUORUM_ADVICE,
        false => "",
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
