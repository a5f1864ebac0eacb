//! Notifies the connections of a server of its shutdown.
//!
//! A connection loads one atomic each time that it is polled. Other ways to be notified take a lock that all
//! connections share.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Poll, Waker};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

/// A phase of the shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// No connections are accepted, and the existing ones close after their current request.
    Draining = 1,
    /// Requests in service are no longer awaited.
    Aborting = 2,
}

/// The shutdown of a server. Its phases only go forward.
#[derive(Debug, Default)]
pub(crate) struct Shutdown {
    /// The number of the [`Phase`], or 0 before any.
    phase: AtomicU8,
    /// One for each phase, so that a task that was notified need not check which one has begun.
    draining: Notify,
    aborting: Notify,
}

impl Shutdown {
    /// Begins `phase`, unless it or a later one has begun.
    pub(crate) fn begin(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Release);
        self.draining.notify_waiters();
        if phase == Phase::Aborting {
            self.aborting.notify_waiters();
        }
    }

    pub(crate) fn has_begun(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Acquire) >= phase as u8
    }

    fn beginning(&self, phase: Phase) -> Notified<'_> {
        match phase {
            Phase::Draining => self.draining.notified(),
            Phase::Aborting => self.aborting.notified(),
        }
    }

    /// Runs `future` until `phase` begins: then `None`, even if the future is ready.
    pub(crate) async fn run_until<F: Future>(&self, phase: Phase, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut beginning = pin!(self.beginning(phase));
        // The waker that will be notified.
        let mut notified: Option<Waker> = None;
        poll_fn(|context| {
            let waker = context.waker();
            if !notified
                .as_ref()
                .is_some_and(|notified| notified.will_wake(waker))
            {
                // Ready only after the beginning, since this was made.
                let _ = beginning.as_mut().poll(context);
                notified = Some(waker.clone());
            }
            if self.has_begun(phase) {
                return Poll::Ready(None);
            }
            future.as_mut().poll(context).map(Some)
        })
        .await
    }
}

/// Runs `future` until `deadline`, if there is one.
pub(crate) async fn until<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, future).await.ok(),
        None => Some(future.await),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::task::yield_now;

    use super::{Phase, Shutdown};

    const DEADLINE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn task_that_waits_for_later_phase_is_notified_of_it() {
        let shutdown = Arc::new(Shutdown::default());
        let waiting = tokio::spawn({
            let shutdown = Arc::clone(&shutdown);
            async move { shutdown.run_until(Phase::Aborting, pending::<()>()).await }
        });
        for phase in [Phase::Draining, Phase::Draining] {
            yield_now().await;
            shutdown.begin(phase);
        }
        yield_now().await;
        assert!(!waiting.is_finished());
        shutdown.begin(Phase::Aborting);
        let waited = tokio::time::timeout(DEADLINE, waiting).await;
        assert_eq!(waited.expect("is notified").expect("ends"), None);
    }

    #[tokio::test]
    async fn phase_that_has_begun_precedes_ready_future() {
        let shutdown = Shutdown::default();
        let ready = || shutdown.run_until(Phase::Draining, async {}).now_or_never();
        assert_eq!(ready(), Some(Some(())));
        shutdown.begin(Phase::Aborting);
        shutdown.begin(Phase::Draining);
        assert_eq!(ready(), Some(None));
    }
}
