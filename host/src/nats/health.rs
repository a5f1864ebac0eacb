//! Whether the stream takes events now, as far as puts and a look at it now and then have shown.
//!
//! Decides which puts are worth a try, so that in long trouble they are refused at once. Never
//! decides what became of one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::util::log_limiter::LogLimiter;

/// How long puts wait for the end of a trouble: longer than the replicas take to agree on a new
/// leader, which is 4 to 9 s.
const PATIENCE: Duration = Duration::from_secs(12);

/// After how long without a failed put all puts try a stream that looks well.
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
    /// The reasons that were logged lately.
    said: LogLimiter,
}

/// A put that goes on trying, until this is dropped.
pub(super) struct TryingAgain<'a>(&'a Health);

#[derive(Debug, Default)]
enum State {
    #[default]
    Good,
    /// It stores nothing new, but says what it has.
    Full { since: Instant },
    /// Puts have failed, and none has succeeded since.
    Trouble {
        since: Instant,
        last: Instant,
        /// Why the last one has failed.
        why: Trouble,
        /// Whether one put may try after all that time.
        may_probe: bool,
    },
    /// It looks well after trouble, and puts show whether it is.
    Recovering { since: Instant },
    /// The stream is not one to put into now.
    Unfit,
    /// It may have lost what it had, or be another: nothing shows that it is right again.
    Suspect,
}

/// Why a put was not taken, for no reason of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    text: String,
    /// Whether somebody has to make room.
    is_full: bool,
}

/// What a look at the stream has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// It is there, and as it has to be.
    Fit,
    /// It must not be put into.
    Unfit,
    /// It must not be put into, however it looks later.
    Suspect,
}

impl Trouble {
    pub(super) fn new(text: impl Into<String>) -> Self {
        let (text, is_full) = (text.into(), false);
        Self { text, is_full }
    }

    pub(super) fn full(text: impl Into<String>) -> Self {
        let (text, is_full) = (text.into(), true);
        Self { text, is_full }
    }
}

impl Health {
    /// Whether a put is worth its first try.
    pub(super) fn admits(&self) -> bool {
        !self.is_ill.load(Ordering::Acquire) || self.admits_at(Instant::now())
    }

    fn admits_at(&self, now: Instant) -> bool {
        match &mut *self.lock() {
            State::Good | State::Full { .. } | State::Recovering { .. } => true,
            State::Trouble { since, .. } if now < *since + PATIENCE => true,
            State::Trouble { may_probe, .. } => std::mem::take(may_probe),
            State::Unfit | State::Suspect => false,
        }
    }

    /// Whether a put that has failed is worth another try. One that may be stored is, to know.
    pub(super) fn admits_again(&self, may_be_stored: bool) -> bool {
        self.admits_again_at(may_be_stored, Instant::now())
    }

    fn admits_again_at(&self, may_be_stored: bool, now: Instant) -> bool {
        match *self.lock() {
            State::Good | State::Full { .. } | State::Recovering { .. } => true,
            State::Trouble { since, .. } => may_be_stored || now < since + PATIENCE,
            State::Unfit | State::Suspect => false,
        }
    }

    /// Whether puts fail since somebody has to make room.
    pub(super) fn is_full(&self) -> bool {
        match &*self.lock() {
            State::Full { .. } => true,
            State::Trouble { why, .. } => why.is_full,
            _ => false,
        }
    }

    /// Counts a put that goes on trying. As long as there is one, it shows whether trouble is over, and
    /// a stream that only looks well does not.
    pub(super) fn try_again(&self) -> TryingAgain<'_> {
        self.trying_again.fetch_add(1, Ordering::Relaxed);
        TryingAgain(self)
    }

    /// A put was stored.
    pub(super) fn stored(&self) {
        if self.is_ill.load(Ordering::Acquire) {
            let mut state = self.lock();
            if let State::Trouble { since, .. }
            | State::Recovering { since }
            | State::Full { since } = *state
            {
                tracing::info!(after = ?since.elapsed(), "the stream takes events again");
                self.set(&mut state, State::Good);
            }
        }
    }

    /// The stream has said that it is full.
    pub(super) fn full(&self, why: &str) {
        let mut state = self.lock();
        let since = match *state {
            State::Good => Instant::now(),
            State::Trouble { since, .. } | State::Recovering { since } => since,
            State::Full { .. } | State::Unfit | State::Suspect => return,
        };
        tracing::warn!("the stream is full, and takes no new events until it has room: {why}");
        self.set(&mut state, State::Full { since });
    }

    /// A put was not taken, for no reason of its own.
    pub(super) fn failed(&self, why: Trouble) {
        self.failed_at(why, Instant::now());
    }

    fn failed_at(&self, new: Trouble, now: Instant) {
        let mut state = self.lock();
        match &mut *state {
            State::Good | State::Full { .. } | State::Recovering { .. } => {
                self.log(&new);
                let trouble = State::Trouble {
                    since: now,
                    last: now,
                    why: new,
                    may_probe: false,
                };
                self.set(&mut state, trouble);
                self.ill.notify_one();
            }
            State::Trouble { last, why, .. } => {
                *last = now;
                if why.text != new.text {
                    self.log(&new);
                    // A server that is full may do nothing at all any more.
                    let is_full = why.is_full || new.is_full;
                    *why = Trouble { is_full, ..new };
                }
            }
            State::Unfit | State::Suspect => {}
        }
    }

    /// Tells each reason when it becomes one, but not each time where two take turns.
    fn log(&self, why: &Trouble) {
        if let Some(suppressed) = self.said.check(&why.text) {
            let why = &why.text;
            tracing::warn!(suppressed, "the stream takes no events at present: {why}");
        }
    }

    /// A put has shown that the stream is another than it was, or has lost what it had. Returns whether that
    /// is news.
    pub(super) fn suspect(&self) -> bool {
        let was_suspect = self.is_suspect();
        self.looked(Look::Suspect);
        self.ill.notify_one();
        !was_suspect
    }

    /// Somebody had a look.
    pub(super) fn looked(&self, look: Look) {
        self.looked_at(look, Instant::now());
    }

    fn looked_at(&self, look: Look, now: Instant) {
        let is_tried = self.trying_again.load(Ordering::Relaxed) > 0;
        let mut state = self.lock();
        match (&mut *state, look) {
            (State::Suspect, _) => {}
            (_, Look::Suspect) => self.set(&mut state, State::Suspect),
            (_, Look::Unfit) => self.set(&mut state, State::Unfit),
            (State::Trouble { .. }, Look::Fit) if is_tried => {}
            (State::Trouble { since, last, .. }, Look::Fit) if now >= *last + RECOVERY => {
                let since = *since;
                self.set(&mut state, State::Recovering { since });
            }
            (State::Trouble { may_probe, .. }, Look::Fit) => *may_probe = true,
            (State::Unfit, Look::Fit) => self.set(&mut state, State::Good),
            (State::Good | State::Full { .. } | State::Recovering { .. }, Look::Fit) => {}
        }
    }

    /// Whether only a look shows when puts may be tried again.
    pub(super) fn needs_looks(&self) -> bool {
        let is_ill = self.is_ill.load(Ordering::Acquire);
        is_ill && matches!(*self.lock(), State::Trouble { .. } | State::Unfit)
    }

    pub(super) fn is_suspect(&self) -> bool {
        matches!(*self.lock(), State::Suspect)
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

    use super::{Health, Look, PATIENCE, RECOVERY, Trouble};

    fn fail(health: &Health, now: Instant) {
        health.failed_at(Trouble::new(""), now);
    }

    #[test]
    fn puts_wait_for_a_while_and_then_are_refused_at_once() {
        let (health, start) = (Health::default(), Instant::now());
        fail(&health, start);
        assert!(health.admits_at(start + PATIENCE / 2));
        assert!(health.admits_again_at(false, start + PATIENCE / 2));
        assert!(!health.admits_at(start + PATIENCE));
        assert!(!health.admits_again_at(false, start + PATIENCE));
        assert!(health.admits_again_at(true, start + PATIENCE));
        health.stored();
        assert!(!health.needs_looks());
        assert!(health.admits());
    }

    #[test]
    fn one_put_probes_a_stream_that_looks_well() {
        let (health, start) = (Health::default(), Instant::now());
        fail(&health, start);
        let late = start + PATIENCE;
        fail(&health, late);
        health.looked_at(Look::Fit, late + RECOVERY / 2);
        assert!(health.admits_at(late));
        assert!(!health.admits_at(late), "there is one probe for each look");
    }

    #[test]
    fn all_puts_try_a_stream_that_nobody_has_failed_on_lately() {
        let (health, start) = (Health::default(), Instant::now());
        let late = start + PATIENCE;
        fail(&health, start);
        health.looked_at(Look::Fit, start + RECOVERY - Duration::from_millis(1));
        assert!(health.admits_at(late) && !health.admits_at(late));
        health.looked_at(Look::Fit, start + RECOVERY);
        assert!(health.admits_at(late) && health.admits_at(late));
        // That it is well only a put shows.
        fail(&health, late);
        assert!(health.needs_looks() && !health.admits_at(late + PATIENCE));
    }

    #[test]
    fn a_put_that_still_tries_is_believed_more_than_a_look() {
        let (health, start) = (Health::default(), Instant::now());
        fail(&health, start);
        let put = health.try_again();
        health.looked_at(Look::Fit, start + PATIENCE);
        assert!(health.needs_looks() && !health.admits_at(start + PATIENCE));
        drop(put);
        health.looked_at(Look::Fit, start + PATIENCE);
        assert!(!health.needs_looks());
    }

    #[test]
    fn unfit_stream_takes_nothing_until_it_is_fit() {
        let health = Health::default();
        health.looked(Look::Unfit);
        health.stored();
        health.failed(Trouble::new(""));
        assert!(!health.admits() && !health.admits_again(true));
        health.looked(Look::Fit);
        assert!(health.admits());
    }

    #[test]
    fn suspect_stream_takes_nothing_whatever_a_look_shows() {
        let health = Health::default();
        health.suspect();
        for look in [Look::Fit, Look::Unfit, Look::Fit] {
            health.looked(look);
            health.stored();
            health.failed(Trouble::new(""));
            assert!(!health.admits() && !health.admits_again(true));
        }
    }

    #[test]
    fn full_stream_is_asked_on() {
        let health = Health::default();
        health.full("");
        assert!(health.is_full() && health.admits() && health.admits_again(false));
        health.stored();
        assert!(!health.is_full());
        health.failed(Trouble::full(""));
        assert!(health.is_full());
        health.failed(Trouble::new("later"));
        assert!(health.is_full(), "of the same trouble");
        health.stored();
        health.failed(Trouble::new("later"));
        assert!(!health.is_full());
    }
}
