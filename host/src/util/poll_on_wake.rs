//! Polls a future only after it was woken: for a future whose task is polled far more often for another one.
//!
//! It is also polled the first time, when the task changes, and once it was ready.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// A future, and whether it was woken since it was last polled.
pub(crate) struct PollOnWake<F> {
    future: F,
    /// `None` until it is first polled.
    flag: Option<Arc<WakeFlag>>,
}

/// Records that a future was woken, and wakes its task.
struct WakeFlag {
    is_woken: AtomicBool,
    task: Waker,
}

impl<F> PollOnWake<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future, flag: None }
    }

    /// The future, to change it: then it is polled the next time.
    pub(crate) fn get_mut(&mut self) -> &mut F {
        self.flag = None;
        &mut self.future
    }
}

impl<F: Future + Unpin> Future for PollOnWake<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, flag } = &mut *self;
        let current = flag.take();
        let current = current.filter(|flag| flag.task.will_wake(context.waker()));
        let current = flag.insert(current.unwrap_or_else(|| {
            Arc::new(WakeFlag {
                is_woken: AtomicBool::new(true),
                task: context.waker().clone(),
            })
        }));
        // Most polls need only this load, which takes less time than the swap.
        if !current.is_woken.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        current.is_woken.swap(false, Ordering::Acquire);
        let waker = Waker::from(Arc::clone(current));
        let polled = Pin::new(future).poll(&mut Context::from_waker(&waker));
        if polled.is_ready() {
            // It wakes nobody any more: it is polled each time, unless it is changed.
            *flag = None;
        }
        polled
    }
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use futures_util::FutureExt as _;

    use super::PollOnWake;
    use crate::util::wake_counter::WakeCounter;

    #[test]
    fn future_is_polled_once_per_wake_and_in_new_task() {
        let (polls, registered) = (Cell::new(0), RefCell::new(None::<Waker>));
        let mut future = PollOnWake::new(poll_fn(|context| -> Poll<()> {
            polls.set(polls.get() + 1);
            registered.replace(Some(context.waker().clone()));
            Poll::Pending
        }));
        let tasks = [(); 2].map(|()| Arc::new(WakeCounter::default()));
        let wakers = tasks.clone().map(Waker::from);
        let mut polls_after = |task: usize| {
            let mut context = Context::from_waker(&wakers[task]);
            assert!(future.poll_unpin(&mut context).is_pending());
            polls.get()
        };
        let wake = || registered.take().expect("is registered").wake();
        let wakes = |task: usize| tasks[task].wakes();
        assert_eq!([polls_after(0), polls_after(0)], [1, 1]);
        wake();
        assert_eq!(wakes(0), 1);
        assert_eq!([polls_after(0), polls_after(0)], [2, 2]);
        assert_eq!([polls_after(1), polls_after(1)], [3, 3]);
        wake();
        assert_eq!([wakes(0), wakes(1)], [1, 1]);
        assert_eq!([polls_after(1), polls_after(1)], [4, 4]);
    }

    #[test]
    fn future_that_was_ready_is_polled_again() {
        let mut future = PollOnWake::new(poll_fn(|_| Poll::Ready(())));
        let waker = Waker::from(Arc::new(WakeCounter::default()));
        let mut context = Context::from_waker(&waker);
        for _ in 0..2 {
            assert!(future.poll_unpin(&mut context).is_ready());
        }
    }
}
