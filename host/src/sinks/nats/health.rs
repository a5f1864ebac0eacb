//! Whether a stream takes events now, as far as puts and probes have shown.
//!
//! Decides whether a put is tried, so that in a long outage puts are refused at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::failure::Failure;
use super::finding::Probe;
use crate::util::log_limiter::LogLimiter;

/// How long puts are retried in an outage: longer than the election of a leader, which takes 4 to 9 s. After that they
/// are refused at once.
const MAX_OUTAGE_TO_WAIT_FOR: Duration = Duration::from_secs(12);

/// How long after the last failed put all puts try a stream whose probes succeed.
const RECOVERY_TIME: Duration = Duration::from_secs(5);

/// The health of a stream.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Whether the state is not [`State::Healthy`]: all that most puts have to know.
    is_unhealthy: AtomicBool,
    state: Mutex<State>,
    became_unhealthy: Notify,
    /// How many puts have failed at least once and are being retried.
    retrying: AtomicUsize,
    /// Keeps reasons that alternate from flooding the log.
    log_limiter: LogLimiter,
}

/// Counts a put that is being retried until it is dropped.
pub(super) struct RetryGuard<'a>(&'a Health);

#[derive(Debug, Default)]
enum State {
    #[default]
    Healthy,
    /// It stores nothing new, but can be read.
    Full { since: Instant },
    /// Puts have failed, and none has succeeded since.
    Unhealthy {
        since: Instant,
        last: Instant,
        /// The reason of the last failure.
        why: Failure,
        /// Whether one put may be tried after a long outage.
        may_probe: bool,
    },
    /// Probes succeed after an outage; the next puts show whether it takes events.
    Recovering { since: Instant },
    /// Nothing may be put into the stream now.
    Unfit,
    /// It may have lost events, or be another stream. This state does not end.
    Suspect,
}

impl Health {
    /// Whether to try a put for the first time.
    pub(super) fn admits(&self) -> bool {
        !self.is_unhealthy.load(Ordering::Acquire) || self.admits_at(Instant::now())
    }

    fn admits_at(&self, now: Instant) -> bool {
        match &mut *self.lock() {
            State::Healthy | State::Full { .. } | State::Recovering { .. } => true,
            State::Unhealthy { since, .. } if now < *since + MAX_OUTAGE_TO_WAIT_FOR => true,
            State::Unhealthy { may_probe, .. } => std::mem::take(may_probe),
            State::Unfit | State::Suspect => false,
        }
    }

    /// Whether to retry a put that has failed. One that may be stored is retried to find that out.
    pub(super) fn admits_again(&self, may_be_stored: bool) -> bool {
        self.admits_again_at(may_be_stored, Instant::now())
    }

    fn admits_again_at(&self, may_be_stored: bool, now: Instant) -> bool {
        match *self.lock() {
            State::Healthy | State::Full { .. } | State::Recovering { .. } => true,
            State::Unhealthy { since, .. } => may_be_stored || now < since + MAX_OUTAGE_TO_WAIT_FOR,
            State::Unfit | State::Suspect => false,
        }
    }

    /// Whether puts fail because the stream or its servers are full.
    pub(super) fn is_full(&self) -> bool {
        match &*self.lock() {
            State::Full { .. } => true,
            State::Unhealthy { why, .. } => why.is_full,
            _ => false,
        }
    }

    /// Why the stream takes no events now, if it does not.
    pub(super) fn describe(&self) -> Option<String> {
        match &*self.lock() {
            State::Healthy | State::Recovering { .. } => None,
            State::Full { .. } => Some("the stream is full".to_owned()),
            State::Unhealthy { why, .. } => Some(why.reason.clone()),
            State::Unfit => Some("the stream is not fit to put into, see the log".to_owned()),
            State::Suspect => Some("the stream may have lost events, see the log".to_owned()),
        }
    }

    /// Counts a put that is being retried. While there is one, its outcome tells whether an outage is over, not a probe.
    pub(super) fn begin_retry(&self) -> RetryGuard<'_> {
        self.retrying.fetch_add(1, Ordering::Relaxed);
        RetryGuard(self)
    }

    /// Records that a put was stored.
    pub(super) fn record_stored(&self) {
        if self.is_unhealthy.load(Ordering::Acquire) {
            let mut state = self.lock();
            if let State::Unhealthy { since, .. }
            | State::Recovering { since }
            | State::Full { since } = *state
            {
                tracing::info!(after = ?since.elapsed(), "the stream takes events again");
                self.set(&mut state, State::Healthy);
            }
        }
    }

    /// Records that the stream is full.
    pub(super) fn record_full(&self, why: &str) {
        let mut state = self.lock();
        let since = match *state {
            State::Healthy => Instant::now(),
            State::Unhealthy { since, .. } | State::Recovering { since } => since,
            State::Full { .. } | State::Unfit | State::Suspect => return,
        };
        tracing::warn!("the stream is full, and takes no new events until it has room: {why}");
        self.set(&mut state, State::Full { since });
    }

    /// Records that the stream did not take a put, for a reason that does not depend on the put.
    pub(super) fn record_failure(&self, why: Failure) {
        self.record_failure_at(why, Instant::now());
    }

    fn record_failure_at(&self, new: Failure, now: Instant) {
        let mut state = self.lock();
        match &mut *state {
            State::Healthy | State::Full { .. } | State::Recovering { .. } => {
                self.log(&new);
                let unhealthy = State::Unhealthy {
                    since: now,
                    last: now,
                    why: new,
                    may_probe: false,
                };
                self.set(&mut state, unhealthy);
                self.became_unhealthy.notify_one();
            }
            State::Unhealthy { last, why, .. } => {
                *last = now;
                if why.reason != new.reason {
                    self.log(&new);
                    // A server that is full may stop answering at all.
                    let is_full = why.is_full || new.is_full;
                    *why = Failure { is_full, ..new };
                }
            }
            State::Unfit | State::Suspect => {}
        }
    }

    /// Logs a new reason, but not each time if two alternate.
    fn log(&self, why: &Failure) {
        if let Some(suppressed) = self.log_limiter.check(&why.reason) {
            let why = &why.reason;
            tracing::warn!(suppressed, "the stream takes no events at present: {why}");
        }
    }

    /// Records that the stream is another one, or has lost events. Returns whether that was not known before.
    pub(super) fn mark_suspect(&self) -> bool {
        let was_suspect = self.is_suspect();
        self.record_probe(Probe::Suspect);
        self.became_unhealthy.notify_one();
        !was_suspect
    }

    /// Records the result of a probe.
    pub(super) fn record_probe(&self, probe: Probe) {
        self.record_probe_at(probe, Instant::now());
    }

    fn record_probe_at(&self, probe: Probe, now: Instant) {
        let is_retried = self.retrying.load(Ordering::Relaxed) > 0;
        let mut state = self.lock();
        match (&mut *state, probe) {
            (State::Suspect, _) => {}
            (_, Probe::Suspect) => self.set(&mut state, State::Suspect),
            (_, Probe::Unfit) => self.set(&mut state, State::Unfit),
            (State::Unhealthy { .. }, Probe::Fit) if is_retried => {}
            (State::Unhealthy { since, last, .. }, Probe::Fit) if now >= *last + RECOVERY_TIME => {
                let since = *since;
                self.set(&mut state, State::Recovering { since });
            }
            (State::Unhealthy { may_probe, .. }, Probe::Fit) => *may_probe = true,
            (State::Unfit, Probe::Fit) => self.set(&mut state, State::Healthy),
            (State::Healthy | State::Full { .. } | State::Recovering { .. }, Probe::Fit) => {}
        }
    }

    /// Whether frequent probes are needed to end this state.
    pub(super) fn needs_probes(&self) -> bool {
        let is_unhealthy = self.is_unhealthy.load(Ordering::Acquire);
        is_unhealthy && matches!(*self.lock(), State::Unhealthy { .. } | State::Unfit)
    }

    pub(super) fn is_suspect(&self) -> bool {
        matches!(*self.lock(), State::Suspect)
    }

    /// Waits until the stream becomes unhealthy.
    pub(super) async fn unhealthy(&self) {
        self.became_unhealthy.notified().await;
    }

    fn set(&self, state: &mut State, next: State) {
        self.is_unhealthy
            .store(!matches!(next, State::Healthy), Ordering::Release);
        *state = next;
    }

    /// The state is replaced as a whole, so a poisoned lock is still valid.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RetryGuard<'_> {
    fn drop(&mut self) {
        self.0.retrying.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Failure, Health, MAX_OUTAGE_TO_WAIT_FOR, Probe, RECOVERY_TIME};

    fn fail(health: &Health, now: Instant) {
        health.record_failure_at(Failure::new(""), now);
    }

    #[test]
    fn puts_are_retried_in_a_short_outage_and_refused_in_a_long_one() {
        let (health, start) = (Health::default(), Instant::now());
        fail(&health, start);
        assert!(health.admits_at(start + MAX_OUTAGE_TO_WAIT_FOR / 2));
        assert!(health.admits_again_at(false, start + MAX_OUTAGE_TO_WAIT_FOR / 2));
        assert!(!health.admits_at(start + MAX_OUTAGE_TO_WAIT_FOR));
        assert!(!health.admits_again_at(false, start + MAX_OUTAGE_TO_WAIT_FOR));
        assert!(health.admits_again_at(true, start + MAX_OUTAGE_TO_WAIT_FOR));
        health.record_stored();
        assert!(!health.needs_probes());
        assert!(health.admits());
    }

    #[test]
    fn one_put_is_tried_after_each_probe_that_succeeds() {
        let (health, start) = (Health::default(), Instant::now());
        fail(&health, start);
        let late = start + MAX_OUTAGE_TO_WAIT_FOR;
        fail(&health, late);
        health.record_probe_at(Probe::Fit, late + RECOVERY_TIME / 2);
        assert!(health.admits_at(late));
        assert!(!health.admits_at(late), "one put for each probe");
    }

    #[test]
    fn all_puts_are_tried_some_time_after_the_last_failure() {
        let (health, start) = (Health::default(), Instant::now());
        let late = start + MAX_OUTAGE_TO_WAIT_FOR;
        fail(&health, start);
        health.record_probe_at(Probe::Fit, start + RECOVERY_TIME - Duration::from_millis(1));
        assert!(health.admits_at(late) && !health.admits_at(late));
        health.record_probe_at(Probe::Fit, start + RECOVERY_TIME);
        assert!(health.admits_at(late) && health.admits_at(late));
        // Only a put that is stored ends the outage.
        fail(&health, late);
        assert!(health.needs_probes() && !health.admits_at(late + MAX_OUTAGE_TO_WAIT_FOR));
    }

    #[test]
    fn retried_put_decides_before_a_probe() {
        let (health, start) = (Health::default(), Instant::now());
        fail(&health, start);
        let put = health.begin_retry();
        health.record_probe_at(Probe::Fit, start + MAX_OUTAGE_TO_WAIT_FOR);
        assert!(health.needs_probes() && !health.admits_at(start + MAX_OUTAGE_TO_WAIT_FOR));
        drop(put);
        health.record_probe_at(Probe::Fit, start + MAX_OUTAGE_TO_WAIT_FOR);
        assert!(!health.needs_probes());
    }

    #[test]
    fn unfit_stream_takes_nothing_until_it_is_fit() {
        let health = Health::default();
        health.record_probe(Probe::Unfit);
        health.record_stored();
        health.record_failure(Failure::new(""));
        assert!(!health.admits() && !health.admits_again(true));
        health.record_probe(Probe::Fit);
        assert!(health.admits());
    }

    #[test]
    fn suspect_stream_takes_nothing_whatever_a_probe_shows() {
        let health = Health::default();
        health.mark_suspect();
        for probe in [Probe::Fit, Probe::Unfit, Probe::Fit] {
            health.record_probe(probe);
            health.record_stored();
            health.record_failure(Failure::new(""));
            assert!(!health.admits() && !health.admits_again(true));
        }
    }

    #[test]
    fn full_stream_is_still_tried() {
        let health = Health::default();
        health.record_full("");
        assert!(health.is_full() && health.admits() && health.admits_again(false));
        health.record_stored();
        assert!(!health.is_full());
        health.record_failure(Failure::full(""));
        assert!(health.is_full());
        health.record_failure(Failure::new("later"));
        assert!(health.is_full(), "it is the same outage");
        health.record_stored();
        health.record_failure(Failure::new("later"));
        assert!(!health.is_full());
    }
}
