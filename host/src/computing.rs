//! How long a guest computes for one request, as against how long it waits.
//!
//! Never ends a guest: it only tells the time.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The time for which the future of a guest's call was polled. A guest that waits, for a body or
/// for its sink, is not polled.
#[derive(Debug, Default)]
pub(crate) struct ComputingTime(Mutex<Measured>);

#[derive(Debug, Default)]
struct Measured {
    /// The polls that have ended.
    ended: Duration,
    /// When the present poll began.
    began: Option<Instant>,
}

impl ComputingTime {
    /// Measures `call` from zero.
    pub(crate) async fn measure<F: Future>(&self, call: F) -> F::Output {
        let mut call = pin!(call);
        *self.lock() = Measured::default();
        poll_fn(|context| {
            self.lock().began = Some(Instant::now());
            let polled = call.as_mut().poll(context);
            let mut measured = self.lock();
            measured.ended = measured.total();
            measured.began = None;
            polled
        })
        .await
    }

    /// The time so far.
    pub(crate) fn total(&self) -> Duration {
        self.lock().total()
    }

    /// Times are set whole, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Measured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Measured {
    fn total(&self) -> Duration {
        self.ended + self.began.map_or(Duration::ZERO, |began| began.elapsed())
    }
}
