//! The options of clients of async-nats: time-outs, pings, and when to reconnect.

use std::time::Duration;

use async_nats::ConnectOptions;

use super::auth;
use super::url::NatsUrl;
use crate::error::Error;

/// The time-out for connecting to one server, authentication included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How often the server is pinged. After three pings without an answer the client reconnects to another, so that a
/// server that hangs holds up puts for seconds, not for minutes.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// The time-out of all requests but publishing an event.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The first and the longest pause before the next attempt to reconnect.
const MIN_RECONNECT_DELAY: Duration = Duration::from_millis(50);
pub(super) const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// The options for the servers of a URL.
///
/// # Errors
///
/// When a file of the URL can't be used.
pub(super) fn client_options(url: &NatsUrl) -> Result<ConnectOptions, Error> {
    let options = ConnectOptions::new()
        .name(env!("CARGO_PKG_NAME"))
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ping_interval(PING_INTERVAL)
        .reconnect_delay_callback(reconnect_delay);
    auth::apply(options, url)
}

/// The pause before the next attempt to reconnect.
fn reconnect_delay(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(2)).unwrap_or(u32::MAX);
    match attempts {
        0 | 1 => Duration::ZERO,
        _ => MIN_RECONNECT_DELAY
            .saturating_mul(2_u32.saturating_pow(doublings))
            .min(MAX_RECONNECT_DELAY),
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_RECONNECT_DELAY, MIN_RECONNECT_DELAY, reconnect_delay};

    #[test]
    fn reconnect_delay_grows_to_its_limit() {
        assert!(reconnect_delay(1).is_zero());
        assert_eq!(reconnect_delay(2), MIN_RECONNECT_DELAY);
        assert_eq!(reconnect_delay(3), 2 * MIN_RECONNECT_DELAY);
        assert_eq!(reconnect_delay(usize::MAX), MAX_RECONNECT_DELAY);
    }
}
