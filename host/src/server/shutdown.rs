//! The end of a server, as all of its connections come to know it.
//!
//! Costs a connection one load of an atomic each time that it is polled, where other ways to be told
//! take a lock that all connections share. Never says what a connection does about it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Poll, Waker};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// A part of the end of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// No new connections, no further request on those there are.
    Closing = 1,
    /// No waiting any more for what is in flight.
    Aborting = 2,
}

/// How far a server is into its end. It only goes forward.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    /// The number of the [`Phase`], or 0 before any.
    phase: AtomicU8,
    /// Who waits for each. Told of its phase alone, who is told once need not look again.
    closing: Notify,
    aborting: Notify,
}

impl Closing {
    /// Goes on to `phase`, unless the server is there or beyond.
    pub(crate) fn begin(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Release);
        self.closing.notify_waiters();
        if phase == Phase::Aborting {
            self.aborting.notify_waiters();
        }
    }

    pub(crate) fn has_begun(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Acquire) >= phase as u8
    }

    fn beginning(&self, phase: Phase) -> Notified<'_> {
        match phase {
            Phase::Closing => self.closing.notified(),
            Phase::Aborting => self.aborting.notified(),
        }
    }

    /// What `future` gives, or `None` once `phase` has begun, which is looked at first.
    pub(crate) async fn unless<F: Future>(&self, phase: Phase, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut beginning = pin!(self.beginning(phase));
        // Who is going to be told.
        let mut told: Option<Waker> = None;
        poll_fn(|context| {
            let waker = context.waker();
            if !told.as_ref().is_some_and(|told| told.will_wake(waker)) {
                // Ready only after the beginning, since this was made.
                let _ = beginning.as_mut().poll(context);
                told = Some(waker.clone());
            }
            if self.has_begun(phase) {
                return Poll::Ready(None);
            }
            future.as_mut().poll(context).map(Some)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::task::yield_now;

    use super::{Closing, Phase};

    const DEADLINE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn who_waits_for_a_later_phase_is_told_of_it_too() {
        let closing = Arc::new(Closing::default());
        let waiting = tokio::spawn({
            let closing = Arc::clone(&closing);
            async move { closing.unless(Phase::Aborting, pending::<()>()).await }
        });
        for phase in [Phase::Closing, Phase::Closing] {
            yield_now().await;
            closing.begin(phase);
        }
        yield_now().await;
        assert!(!waiting.is_finished());
        closing.begin(Phase::Aborting);
        let waited = tokio::time::timeout(DEADLINE, waiting).await;
        assert_eq!(waited.expect("is told").expect("ends"), None);
    }

    #[tokio::test]
    async fn a_phase_that_has_begun_comes_before_the_future() {
        let closing = Closing::default();
        let ready = || closing.unless(Phase::Closing, async {}).now_or_never();
        assert_eq!(ready(), Some(Some(())));
        closing.begin(Phase::Aborting);
        closing.begin(Phase::Closing);
        assert_eq!(ready(), Some(None));
    }
}
