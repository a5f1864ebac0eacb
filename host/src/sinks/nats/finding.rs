//! The result of a probe of a stream, and how the report of a stale leader is told from a loss.

use std::time::Duration;

use tokio::time::Instant;

/// Whether a stream takes events, by a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// It exists, and its state and settings are as required.
    Fit,
    /// Nothing may be put into it now.
    Unfit,
    /// Nothing may be put into it any more, whatever later probes show.
    Suspect,
}

/// How long a stale leader, one that was paused or is cut off from the others, may report an old state of the stream:
/// a little more than the 10 s after which it steps down.
const STALE_LEADER_TIME: Duration = Duration::from_secs(15);

/// How long a new leader may take to apply all that is committed.
const REPLICATION_LAG: Duration = Duration::from_secs(2);

/// The result of a probe, with its reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Fit,
    Unfit(String),
    /// Nothing may be put into the server of this connection.
    UnfitServer(String),
    /// It has less than it had, unless this is the report of a stale leader.
    Regressed(String),
    /// It is another stream, or has lost events.
    Suspect(String),
}

/// Confirms [`Finding::Regressed`] once it can't be the report of a stale leader any more. Until then the stream is
/// unfit, but not within the time in which a new leader may still apply what is committed: then `None`.
pub(super) fn confirm(
    found: Finding,
    is_replicated: bool,
    regressed_since: &mut Option<Instant>,
    now: Instant,
) -> Option<Finding> {
    if matches!(found, Finding::Regressed(_)) {
        let since = *regressed_since.get_or_insert(now);
        if !is_replicated || now >= since + STALE_LEADER_TIME {
            return Some(found);
        }
        let may_be_lag = now < since + REPLICATION_LAG;
        return match found {
            Finding::Regressed(why) if !may_be_lag => Some(Finding::Unfit(why)),
            _ => None,
        };
    }
    if let Some(since) = regressed_since.take() {
        let after = now - since;
        match after < REPLICATION_LAG {
            true => tracing::info!(?after, "the stream has all again that it had"),
            false => tracing::warn!(
                ?after,
                "the stream has all again that it had: for that time a stale leader answered, or one \
                 whose replica lacks events; `alldata-peer verify --all-replicas` tells which"
            ),
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Finding, REPLICATION_LAG, STALE_LEADER_TIME, confirm};

    fn regressed() -> Finding {
        Finding::Regressed(String::new())
    }

    #[test]
    fn regression_of_a_replicated_stream_is_confirmed_after_a_while() {
        let (mut since, start) = (None, Instant::now());
        let moment = Duration::from_millis(1);
        for now in [start, start + REPLICATION_LAG - moment] {
            assert_eq!(confirm(regressed(), true, &mut since, now), None);
        }
        for now in [start + REPLICATION_LAG, start + STALE_LEADER_TIME - moment] {
            let unfit = Finding::Unfit(String::new());
            assert_eq!(confirm(regressed(), true, &mut since, now), Some(unfit));
        }
        let late = start + STALE_LEADER_TIME;
        assert_eq!(
            confirm(regressed(), true, &mut since, late),
            Some(regressed())
        );
    }

    #[test]
    fn stream_that_has_all_again_has_lost_nothing() {
        let (mut since, start) = (None, Instant::now());
        assert_eq!(confirm(regressed(), true, &mut since, start), None);
        let fit = confirm(Finding::Fit, true, &mut since, start);
        assert_eq!((fit, since), (Some(Finding::Fit), None));
        let late = start + STALE_LEADER_TIME;
        assert_eq!(confirm(regressed(), true, &mut since, late), None);
    }

    #[test]
    fn regression_of_a_single_server_is_confirmed_at_once() {
        let mut since = None;
        let found = confirm(regressed(), false, &mut since, Instant::now());
        assert_eq!(found, Some(regressed()));
    }
}
