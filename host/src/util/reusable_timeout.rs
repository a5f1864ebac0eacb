//! A time-out for successive futures, with one timer that remains set between them.
//!
//! Setting and unsetting a timer for each future would take a lock that all threads share. If the timer
//! fires before the deadline of the current future, it is set again; no future times out early.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::util::poll_on_wake::PollOnWake;

/// Runs one future at a time, each with the same time-out.
pub(crate) struct ReusableTimeout {
    after: Duration,
    /// Fires no later than the deadline of the current future.
    timer: Option<PollOnWake<Pin<Box<Sleep>>>>,
}

impl ReusableTimeout {
    pub(crate) fn new(after: Duration) -> Self {
        Self { after, timer: None }
    }

    /// Runs `future`; `None` if it takes too long. The clock is not read for a future that is ready at once.
    pub(crate) async fn run<F: Future>(&mut self, future: F) -> Option<F::Output> {
        let Self { after, timer } = self;
        let mut future = pin!(future);
        let mut deadline = None;
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            // A deadline that the clock cannot represent never comes.
            let deadline = deadline.get_or_insert_with(|| Instant::now().checked_add(*after));
            let Some(deadline) = *deadline else {
                return Poll::Pending;
            };
            let timer = timer.get_or_insert_with(|| {
                let timer = Box::pin(sleep_until(deadline));
                // A connection is polled far more often than its timer fires.
                PollOnWake::new(timer)
            });
            loop {
                // A future that uses up the cooperative budget must not keep the timer from firing.
                ready!(Pin::new(&mut unconstrained(&mut *timer)).poll(context));
                if Instant::now() >= deadline {
                    return Poll::Ready(None);
                }
                timer.get_mut().as_mut().reset(deadline);
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::pin::pin;
    use std::task::Poll;
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::ReusableTimeout;

    const AFTER: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn timer_of_one_future_does_not_end_the_next_early() {
        let mut timeout = ReusableTimeout::new(AFTER);
        // Leaves a timer that fires 20 s from here.
        let first = timeout.run(tokio::time::sleep(Duration::from_secs(10)));
        assert_eq!(first.await, Some(()));
        let began = Instant::now();
        assert_eq!(timeout.run(pending::<()>()).await, None);
        assert_eq!(began.elapsed(), AFTER);
    }

    #[tokio::test(start_paused = true)]
    async fn future_that_is_always_busy_ends_in_time() {
        let busy = tokio::spawn(async {
            let mut timeout = ReusableTimeout::new(AFTER);
            let busy = async {
                loop {
                    tokio::task::consume_budget().await;
                }
            };
            timeout.run(busy).await
        });
        tokio::task::yield_now().await;
        advance(AFTER).await;
        let ended: Option<()> = busy.await.expect("does not panic");
        assert_eq!(ended, None);
    }

    #[tokio::test(start_paused = true)]
    async fn each_future_of_a_task_times_out() {
        let mut timeout = ReusableTimeout::new(AFTER);
        for _ in 0..3 {
            let mut run = pin!(timeout.run(pending::<()>()));
            for expected in [Poll::Pending, Poll::Ready(None)] {
                let polled = poll_fn(|context| Poll::Ready(run.as_mut().poll(context)));
                assert_eq!(polled.await, expected);
                advance(AFTER).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn maximum_duration_never_ends_a_future() {
        let mut timeout = ReusableTimeout::new(Duration::MAX);
        let long = timeout.run(tokio::time::sleep(1000 * AFTER));
        assert_eq!(long.await, Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn timer_that_fired_between_futures_ends_none() {
        let mut timeout = ReusableTimeout::new(AFTER);
        let first = timeout.run(tokio::time::sleep(Duration::from_secs(10)));
        assert_eq!(first.await, Some(()));
        advance(10 * AFTER).await;
        let second = tokio::time::sleep(AFTER - Duration::from_secs(1));
        let second = timeout.run(second);
        assert_eq!(second.await, Some(()));
    }
}
