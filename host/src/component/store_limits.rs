//! The limits of the store of a guest: its linear memory, and its processor time in one call.
//!
//! A guest that exceeds one traps.

use std::time::Duration;

use wasmtime::{Engine, Error, ResourceLimiter, Result, Store, UpdateDeadline, ensure};

use crate::component::cpu_time::CpuTime;

/// The largest size of one linear memory in bytes: a body of 16 MiB, twice that while its buffer grows, and
/// the rest for the guest itself.
pub(crate) const MAX_MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// How many bytes the linear memory of an instance may have grown if the instance is to be reused. After
/// growing more, for a large body, it is replaced.
const MAX_REUSED_GROWTH_BYTES: usize = 512 * 1024;

/// The limits of the store of a guest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreLimits {
    /// The most bytes of all its linear memories together.
    pub(crate) memory_bytes: usize,
    /// The most processor time in one call.
    pub(crate) cpu_time: Duration,
}

/// The data of a store with limits.
pub(crate) trait LimitedState: Send + 'static {
    fn memory(&mut self) -> &mut MemoryLimiter;
    fn cpu_time(&self) -> &CpuTime;
    /// Whether the current call is on a fiber.
    fn may_yield(&self) -> bool {
        true
    }
}

/// A store with limits.
pub(crate) fn store<S: LimitedState>(engine: &Engine, limits: StoreLimits, state: S) -> Store<S> {
    let mut store = Store::new(engine, state);
    store.limiter(|state| state.memory());
    // Called when the guest continues after a tick.
    store.epoch_deadline_callback(move |store| {
        let max = limits.cpu_time;
        ensure!(
            store.data().cpu_time().total() <= max,
            "it used more than {max:?} of processor time"
        );
        Ok(match store.data().may_yield() {
            true => UpdateDeadline::Yield(1),
            false => UpdateDeadline::Continue(1),
        })
    });
    store.set_epoch_deadline(1);
    store
}

/// Limits the linear memories of all modules of a guest.
pub(crate) struct MemoryLimiter {
    max_bytes: usize,
    bytes: usize,
    /// The size after instantiation: a sink in a language with a runtime of its own takes megabytes.
    initial_bytes: usize,
    /// The size in bytes that was denied last, and the limit. The guest may handle that, or trap.
    denied: Option<(usize, usize)>,
}

impl MemoryLimiter {
    pub(crate) fn new(limits: StoreLimits) -> Self {
        Self {
            max_bytes: limits.memory_bytes,
            bytes: 0,
            initial_bytes: 0,
            denied: None,
        }
    }

    /// Records the present size as the initial one.
    pub(crate) fn set_initial(&mut self) {
        self.initial_bytes = self.bytes;
    }

    /// Whether the memory has grown so little that the instance may be reused.
    pub(crate) fn is_reusable(&self) -> bool {
        self.denied.is_none() && self.bytes - self.initial_bytes <= MAX_REUSED_GROWTH_BYTES
    }

    /// Adds to a trap that memory was denied before it, if it was.
    pub(crate) fn add_memory_context(&self, trap: Error) -> Error {
        match self.denied {
            Some((requested, max)) => trap.context(format!(
                "it requested {requested} bytes of memory; the limit is {max}"
            )),
            None => trap,
        }
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        let bytes = self.bytes.saturating_add(desired.saturating_sub(current));
        let denied = if desired > MAX_MEMORY_BYTES {
            Some((desired, MAX_MEMORY_BYTES))
        } else if bytes > self.max_bytes {
            Some((bytes, self.max_bytes))
        } else {
            self.bytes = bytes;
            return Ok(true);
        };
        // Growth beyond the maximum that the memory itself declares is not denied by this limit.
        if maximum.is_none_or(|maximum| desired <= maximum) {
            self.denied = denied;
        }
        Ok(false)
    }

    fn table_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }
}
