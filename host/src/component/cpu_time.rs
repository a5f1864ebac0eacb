//! How long a guest computes in one call, as against how long it waits.
//!
//! Never ends a guest: it only tells the time. Reads no clock where a guest is called, since that
//! would cost as much as a small part of the guest itself: it counts the ticks that pass meanwhile.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{io, thread};

use wasmtime::Engine;

/// How often the clock of an engine ticks: at a tick a guest that computes lets others run, and its
/// time is checked.
const TICK: Duration = Duration::from_millis(100);

/// The clock of an engine, in ticks since it was started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock(Arc<AtomicU64>);

/// The ticks in which the future of a guest's call was being polled. A guest that waits, for a body
/// or for its sink, is not polled.
///
/// A poll between two ticks counts as nothing, and one that meets a tick as a whole one, which is
/// right on the average.
#[derive(Debug, Default)]
pub(crate) struct ComputingTime {
    clock: Clock,
    /// The ticks of the polls that have ended.
    ended: AtomicU64,
    /// What the clock said when the last poll began.
    began: AtomicU64,
}

impl Clock {
    /// Lets the clock tick for as long as the engine is used.
    pub(crate) fn start(engine: &Engine) -> io::Result<Self> {
        let clock = Self::default();
        let Self(ticks) = clock.clone();
        let engine = engine.weak();
        thread::Builder::new()
            .name("guest-clock".to_owned())
            .spawn(move || {
                loop {
                    thread::sleep(TICK);
                    match engine.upgrade() {
                        Some(engine) => {
                            ticks.fetch_add(1, Ordering::Relaxed);
                            engine.increment_epoch();
                        }
                        None => return,
                    }
                }
            })?;
        Ok(clock)
    }

    fn ticks(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl ComputingTime {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            ..Self::default()
        }
    }

    /// Measures `call` from zero.
    pub(crate) async fn measure<F: Future>(&self, call: F) -> F::Output {
        let mut call = pin!(call);
        self.ended.store(0, Ordering::Relaxed);
        poll_fn(|context| {
            self.began.store(self.clock.ticks(), Ordering::Relaxed);
            let polled = call.as_mut().poll(context);
            if polled.is_pending() {
                self.ended.store(self.ticks(), Ordering::Relaxed);
            }
            polled
        })
        .await
    }

    /// The time so far, asked while a poll runs.
    pub(crate) fn total(&self) -> Duration {
        TICK.saturating_mul(u32::try_from(self.ticks()).unwrap_or(u32::MAX))
    }

    fn ticks(&self) -> u64 {
        let began = self.began.load(Ordering::Relaxed);
        self.ended.load(Ordering::Relaxed) + self.clock.ticks().saturating_sub(began)
    }
}
