//! Which leader of the stream a sink has tried to connect to, and when it tries again.

use std::time::Duration;

use tokio::time::Instant;

/// How long to wait before the same leader is tried again: at first, and at most, where it can't be reached. Each
/// try connects to all servers that are known.
const MIN_RETRY_PAUSE: Duration = Duration::from_secs(10);
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(600);

/// The last leader that was tried.
#[derive(Debug, Default)]
pub(super) struct LeaderAttempts {
    leader: String,
    next: Option<Instant>,
    pause: Duration,
}

impl LeaderAttempts {
    /// Whether to connect to this leader now.
    pub(super) fn is_due(&self, leader: &str, now: Instant) -> bool {
        self.leader != leader || self.next.is_none_or(|next| now >= next)
    }

    /// Notes that it was tried. Returns whether it is the first failure with this leader.
    pub(super) fn note(&mut self, leader: &str, is_connected: bool, now: Instant) -> bool {
        let is_first = self.leader != leader || self.pause.is_zero();
        let longer = self.pause.saturating_mul(2);
        self.pause = match is_first || is_connected {
            true => MIN_RETRY_PAUSE,
            false => longer.min(MAX_RETRY_PAUSE),
        };
        leader.clone_into(&mut self.leader);
        self.next = Some(now + self.pause);
        is_first && !is_connected
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{LeaderAttempts, MAX_RETRY_PAUSE, MIN_RETRY_PAUSE};

    #[test]
    fn unreachable_leader_is_tried_less_and_less_often() {
        let (mut attempts, mut now) = (LeaderAttempts::default(), Instant::now());
        assert!(attempts.is_due("one", now));
        assert!(attempts.note("one", false, now));
        let mut pause = MIN_RETRY_PAUSE;
        for _ in 0..10 {
            assert!(!attempts.is_due("one", now + pause - MIN_RETRY_PAUSE / 2));
            now += pause;
            assert!(attempts.is_due("one", now));
            assert!(!attempts.note("one", false, now));
            pause = (2 * pause).min(MAX_RETRY_PAUSE);
        }
        assert_eq!(pause, MAX_RETRY_PAUSE);
        assert!(attempts.is_due("two", now));
        assert!(attempts.note("two", false, now));
        assert!(attempts.is_due("two", now + MIN_RETRY_PAUSE));
    }

    #[test]
    fn leader_that_is_lost_is_tried_again_soon() {
        let (mut attempts, now) = (LeaderAttempts::default(), Instant::now());
        attempts.note("one", false, now);
        attempts.note("one", false, now);
        assert!(!attempts.note("one", true, now));
        assert!(!attempts.is_due("one", now));
        assert!(attempts.is_due("one", now + MIN_RETRY_PAUSE));
    }
}
