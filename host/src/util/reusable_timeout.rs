//! A time-out that costs next to nothing as long as nothing takes that long.
//!
//! A timer for each put would have to be set and unset with a lock that all threads share. Here one
//! stays set from put to put. When it goes off, that is too early for a put that began after it was
//! set: only then is it set again, for the time of that put. Never ends anything early.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

/// Ends what takes too long, one after the other.
#[derive(Debug)]
pub(crate) struct TimeOut {
    after: Duration,
    /// Set for a time at which nothing that is under way may have been ended yet.
    timer: Option<Pin<Box<Sleep>>>,
}

impl TimeOut {
    pub(crate) fn new(after: Duration) -> Self {
        Self { after, timer: None }
    }

    /// What `future` gives, or `None` if it takes too long. One that is done at once sees no clock.
    pub(crate) async fn hold<F: Future>(&mut self, future: F) -> Option<F::Output> {
        let Self { after, timer } = self;
        let mut future = pin!(future);
        let mut deadline = None;
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            // Beyond what a clock can tell nothing is ended.
            let deadline = deadline.get_or_insert_with(|| Instant::now().checked_add(*after));
            let Some(deadline) = *deadline else {
                return Poll::Pending;
            };
            let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            loop {
                // Who uses up what this task may do at a time uses up no time.
                ready!(Pin::new(&mut unconstrained(timer.as_mut())).poll(context));
                if Instant::now() >= deadline {
                    return Poll::Ready(None);
                }
                timer.as_mut().reset(deadline);
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::TimeOut;

    const AFTER: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_timer_set_for_one_ends_the_next_no_earlier() {
        let mut time_out = TimeOut::new(AFTER);
        // Leaves a timer behind that goes off 20 s from here.
        let first = time_out.hold(tokio::time::sleep(Duration::from_secs(10)));
        assert_eq!(first.await, Some(()));
        let began = Instant::now();
        assert_eq!(time_out.hold(pending::<()>()).await, None);
        assert_eq!(began.elapsed(), AFTER);
    }

    #[tokio::test(start_paused = true)]
    async fn future_that_is_always_busy_ends_in_time() {
        let busy = tokio::spawn(async {
            let mut time_out = TimeOut::new(AFTER);
            let busy = async {
                loop {
                    tokio::task::consume_budget().await;
                }
            };
            time_out.hold(busy).await
        });
        tokio::task::yield_now().await;
        advance(AFTER).await;
        let ended: Option<()> = busy.await.expect("does not panic");
        assert_eq!(ended, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_take_for_ever_is_not_ended() {
        let mut time_out = TimeOut::new(Duration::MAX);
        let long = time_out.hold(tokio::time::sleep(1000 * AFTER));
        assert_eq!(long.await, Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_went_off_meanwhile_ends_nothing() {
        let mut time_out = TimeOut::new(AFTER);
        let first = time_out.hold(tokio::time::sleep(Duration::from_secs(10)));
        assert_eq!(first.await, Some(()));
        advance(10 * AFTER).await;
        let second = time_out.hold(tokio::time::sleep(AFTER - Duration::from_secs(1)));
        assert_eq!(second.await, Some(()));
    }
}
