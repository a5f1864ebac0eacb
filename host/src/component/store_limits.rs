//! What holds a guest within its limits: how much memory it has, and how long it computes.
//!
//! Never ends a request: a guest that goes beyond traps, and that is for others to answer.

use std::time::Duration;

use wasmtime::{Engine, Error, ResourceLimiter, Result, Store, UpdateDeadline, ensure};

use crate::component::cpu_time::ComputingTime;

/// The most bytes of one linear memory: a body of 16 MiB, twice that while its buffer grows, and
/// the rest for the guest itself.
pub(crate) const MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// How much linear memory a guest may keep for its next request, in bytes, beyond what it started
/// with. One that has grown by more, by a large body, is replaced.
const KEPT_MEMORY_BYTES: usize = 512 * 1024;

/// What a guest may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GuestLimits {
    /// The most bytes of all its linear memories together.
    pub(crate) memory_bytes: usize,
    /// The most time that it computes in one call, not counting when it waits.
    pub(crate) time: Duration,
}

/// What the store of a guest holds, so that it can be held within limits.
pub(crate) trait Watched: Send + 'static {
    fn memory(&mut self) -> &mut GuestMemory;
    fn computing(&self) -> &ComputingTime;
}

/// A store whose guest stays within its limits.
pub(crate) fn store<S: Watched>(engine: &Engine, limits: GuestLimits, state: S) -> Store<S> {
    let mut store = Store::new(engine, state);
    store.limiter(|state| state.memory());
    // Called where the guest goes on after a tick.
    store.epoch_deadline_callback(move |store| {
        let GuestLimits { time, .. } = limits;
        ensure!(
            store.data().computing().total() <= time,
            "it computed for more than {time:?}"
        );
        Ok(UpdateDeadline::Yield(1))
    });
    store.set_epoch_deadline(1);
    store
}

/// The linear memory of all modules of a guest.
pub(crate) struct GuestMemory {
    most: usize,
    bytes: usize,
    /// What it started with: a sink that brings a language of its own brings megabytes of it.
    initial_bytes: usize,
    /// What it was refused last and what it may have instead, in bytes. It may do without, or trap.
    refused: Option<(usize, usize)>,
}

impl GuestMemory {
    pub(crate) fn new(limits: GuestLimits) -> Self {
        Self {
            most: limits.memory_bytes,
            bytes: 0,
            initial_bytes: 0,
            refused: None,
        }
    }

    /// Takes what the guest has by now as what it started with.
    pub(crate) fn settle(&mut self) {
        self.initial_bytes = self.bytes;
    }

    /// Whether the guest has grown so little that it may be kept.
    pub(crate) fn is_small(&self) -> bool {
        self.refused.is_none() && self.bytes - self.initial_bytes <= KEPT_MEMORY_BYTES
    }

    /// Says of a trap what may have led to it.
    pub(crate) fn explain(&self, trap: Error) -> Error {
        match self.refused {
            Some((wanted, most)) => trap.context(format!(
                "it wanted {wanted} bytes of memory and may have {most}"
            )),
            None => trap,
        }
    }
}

impl ResourceLimiter for GuestMemory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        let bytes = self.bytes.saturating_add(desired.saturating_sub(current));
        let refused = if desired > MEMORY_BYTES {
            Some((desired, MEMORY_BYTES))
        } else if bytes > self.most {
            Some((bytes, self.most))
        } else {
            self.bytes = bytes;
            return Ok(true);
        };
        // What its own type forbids is no matter of ours.
        if maximum.is_none_or(|maximum| desired <= maximum) {
            self.refused = refused;
        }
        Ok(false)
    }

    fn table_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }
}
