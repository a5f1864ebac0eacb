//! Whether the stream takes events now, as far as puts and a look at it now and then have shown.
//!
//! Decides which puts are worth a try, so that in long trouble they are refused at once. Never
//! decides what became of one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long puts wait for the end of a trouble: longer than the replicas take to agree on a new
/// leader, which is 4 to 9 s.
const PATIENCE: Duration = Duration::from_secs(12);

/// After how long without a failed put a stream that looks well is taken to be well.
const RECOVERY: Duration = Duration::from_secs(5);

/// The health of a stream.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Whether the state is not [`State::Good`], for the many puts that need to know no more.
    is_ill: AtomicBool,
    state: Mutex<State>,
    ill: Notify,
    /// How many puts have failed at least once and go on trying.
    trying_again: AtomicUsize,
}

/// A put that goes on trying, until this is dropped.
pub(super) struct TryingAgain<'a>(&'a Health);

#[derive(Debug, Default)]
enum State {
    #[default]
    Good,
    /// Puts have failed, and none has succeeded since.
    Trouble {
        since: Instant,
        last: Instant,
        /// Whether one put may try after all that time.
        may_probe: bool,
    },
    /// The stream is not one to put into.
    Unfit,
}

/// What a look at the stream has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// It is there, and as it has to be.
    Fit,
    /// It must not be put into.
    Unfit,
}

impl Health {
    /// Whether a put is worth its first try.
    pub(super) fn admits(&self) -> bool {
        !self.is_ill.load(Ordering::Acquire) || self.admits_at(Instant::now())
    }

    fn admits_at(&self, now: Instant) -> bool {
        match &mut *self.lock() {
            State::Good => true,
            State::Trouble { since, .. } if now < *since + PATIENCE => true,
            State::Trouble { may_probe, .. } => std::mem::take(may_probe),
            State::Unfit => false,
        }
    }

    /// Whether a put that has failed is worth another try. One that may be stored is, to know.
    pub(super) fn admits_again(&self, may_be_stored: bool) -> bool {
        self.admits_again_at(may_be_stored, Instant::now())
    }

    fn admits_again_at(&self, may_be_stored: bool, now: Instant) -> bool {
        match *self.lock() {
            State::Good => true,
            State::Trouble { since, .. } => may_be_stored || now < since + PATIENCE,
            State::Unfit => false,
        }
    }

    /// Counts a put that goes on trying. As long as there is one, it shows whether trouble is over, and
    /// a stream that only looks well does not.
    pub(super) fn try_again(&self) -> TryingAgain<'_> {
        self.trying_again.fetch_add(1, Ordering::Relaxed);
        TryingAgain(self)
    }

    /// A put was answered by the stream.
    pub(super) fn answered(&self) {
        if self.is_ill.load(Ordering::Acquire) {
            let mut state = self.lock();
            if let State::Trouble { since, .. } = *state {
                tracing::info!(after = ?since.elapsed(), "the stream takes events again");
                self.set(&mut state, State::Good);
            }
        }
    }

    /// A put was not taken, for no reason of its own.
    pub(super) fn failed(&self, why: &str) {
        self.failed_at(why, Instant::now());
    }

    fn failed_at(&self, why: &str, now: Instant) {
        let mut state = self.lock();
        match &mut *state {
            State::Good => {
                tracing::warn!("the stream takes no events at present: {why}");
                let trouble = State::Trouble {
                    since: now,
                    last: now,
                    may_probe: false,
                };
                self.set(&mut state, trouble);
                self.ill.notify_one();
            }
            State::Trouble { last, .. } => *last = now,
            State::Unfit => {}
        }
    }

    /// A put has shown that the stream may be another than it was: nothing is put until somebody has
    /// had a look.
    pub(super) fn doubted(&self) {
        self.looked(Look::Unfit);
        self.ill.notify_one();
    }

    /// Somebody had a look.
    pub(super) fn looked(&self, look: Look) {
        self.looked_at(look, Instant::now());
    }

    fn looked_at(&self, look: Look, now: Instant) {
        let is_tried = self.trying_again.load(Ordering::Relaxed) > 0;
        let mut state = self.lock();
        match (&mut *state, look) {
            (State::Trouble { .. }, Look::Fit) if is_tried => {}
            (State::Trouble { last, .. }, Look::Fit) if now >= *last + RECOVERY => {
                tracing::info!("the stream looks well again");
                self.set(&mut state, State::Good);
            }
            (State::Trouble { may_probe, .. }, Look::Fit) => *may_probe = true,
            (State::Unfit, Look::Fit) => self.set(&mut state, State::Good),
            (State::Good, Look::Fit) => {}
            (_, Look::Unfit) => self.set(&mut state, State::Unfit),
        }
    }

    pub(super) fn is_good(&self) -> bool {
        !self.is_ill.load(Ordering::Acquire)
    }

    /// Waits until trouble begins.
    pub(super) async fn trouble(&self) {
        self.ill.notified().await;
    }

    fn set(&self, state: &mut State, next: State) {
        self.is_ill
            .store(!matches!(next, State::Good), Ordering::Release);
        *state = next;
    }

    /// What is behind it is set as a whole, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TryingAgain<'_> {
    fn drop(&mut self) {
        self.0.trying_again.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Health, Look, PATIENCE, RECOVERY};

    #[test]
    fn puts_wait_for_a_while_and_then_are_refused_at_once() {
        let (health, start) = (Health::default(), Instant::now());
        health.failed_at("", start);
        assert!(health.admits_at(start + PATIENCE / 2));
        assert!(health.admits_again_at(false, start + PATIENCE / 2));
        assert!(!health.admits_at(start + PATIENCE));
        assert!(!health.admits_again_at(false, start + PATIENCE));
        assert!(health.admits_again_at(true, start + PATIENCE));
        health.answered();
        assert!(health.is_good());
        assert!(health.admits());
    }

    #[test]
    fn one_put_probes_a_stream_that_looks_well() {
        let (health, start) = (Health::default(), Instant::now());
        health.failed_at("", start);
        let late = start + PATIENCE;
        health.failed_at("", late);
        health.looked_at(Look::Fit, late + RECOVERY / 2);
        assert!(health.admits_at(late));
        assert!(!health.admits_at(late), "there is one probe for each look");
    }

    #[test]
    fn a_stream_that_nobody_has_failed_on_lately_is_well() {
        let (health, start) = (Health::default(), Instant::now());
        health.failed_at("", start);
        health.looked_at(Look::Fit, start + RECOVERY - Duration::from_millis(1));
        assert!(!health.is_good());
        health.looked_at(Look::Fit, start + RECOVERY);
        assert!(health.is_good());
    }

    #[test]
    fn a_put_that_still_tries_is_believed_more_than_a_look() {
        let (health, start) = (Health::default(), Instant::now());
        health.failed_at("", start);
        let put = health.try_again();
        health.looked_at(Look::Fit, start + PATIENCE);
        assert!(!health.is_good() && !health.admits_at(start + PATIENCE));
        drop(put);
        health.looked_at(Look::Fit, start + PATIENCE);
        assert!(health.is_good());
    }

    #[test]
    fn what_is_unfit_takes_nothing_until_it_is_fit() {
        let health = Health::default();
        health.looked(Look::Unfit);
        health.answered();
        health.failed("");
        assert!(!health.admits() && !health.admits_again(true));
        health.looked(Look::Fit);
        assert!(health.is_good());
    }
}
