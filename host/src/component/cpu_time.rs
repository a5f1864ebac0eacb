//! The processor time of a guest in one call, as opposed to the time that it waits.
//!
//! Reading a clock for each call would cost as much as a small part of the call itself. Instead, the ticks
//! of a clock that pass during the call are counted. `store_limits` stops a guest.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{io, thread};

use wasmtime::Engine;

/// How long an epoch of the engine lasts: at its end the time of a guest that computes is checked, and
/// the guest yields to other tasks if it runs on a fiber.
const TICK: Duration = Duration::from_millis(100);

/// Counts the epochs of an engine since the ticker was started.
#[derive(Debug, Clone, Default)]
pub(crate) struct EpochTicker(Arc<AtomicU64>);

/// The number of ticks during which a guest's call was running, or its future was being polled. A guest that waits,
/// for a body or for its sink, is not polled.
///
/// A poll that ends before the next tick counts as zero, and one that sees a tick as a whole one, which is
/// right on average.
#[derive(Debug, Default)]
pub(crate) struct CpuTime {
    ticker: EpochTicker,
    /// The ticks of the polls that have ended.
    past_polls: AtomicU64,
    /// The ticker's count when the last poll started.
    poll_start: AtomicU64,
}

impl EpochTicker {
    /// Starts a thread that ticks for as long as the engine is used.
    pub(crate) fn start(engine: &Engine) -> io::Result<Self> {
        let ticker = Self::default();
        let Self(ticks) = ticker.clone();
        let engine = engine.weak();
        thread::Builder::new()
            .name("epoch-ticker".to_owned())
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
        Ok(ticker)
    }

    fn ticks(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl CpuTime {
    pub(crate) fn new(ticker: EpochTicker) -> Self {
        Self {
            ticker,
            ..Self::default()
        }
    }

    /// Measures `call`, starting from zero.
    pub(crate) async fn measure<F: Future>(&self, call: F) -> F::Output {
        let mut call = pin!(call);
        self.past_polls.store(0, Ordering::Relaxed);
        poll_fn(|context| {
            self.start_poll();
            let polled = call.as_mut().poll(context);
            if polled.is_pending() {
                self.past_polls.store(self.ticks(), Ordering::Relaxed);
            }
            polled
        })
        .await
    }

    /// Measures a call that blocks, starting from zero.
    pub(crate) fn measure_blocking<T>(&self, call: impl FnOnce() -> T) -> T {
        self.past_polls.store(0, Ordering::Relaxed);
        self.start_poll();
        call()
    }

    fn start_poll(&self) {
        self.poll_start
            .store(self.ticker.ticks(), Ordering::Relaxed);
    }

    /// The time so far, to be called during a poll or a call that blocks.
    pub(crate) fn total(&self) -> Duration {
        TICK.saturating_mul(u32::try_from(self.ticks()).unwrap_or(u32::MAX))
    }

    fn ticks(&self) -> u64 {
        let start = self.poll_start.load(Ordering::Relaxed);
        self.past_polls.load(Ordering::Relaxed) + self.ticker.ticks().saturating_sub(start)
    }
}
