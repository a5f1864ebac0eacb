//! What holds a guest within its limits: how much memory it has, and how long it computes.
//!
//! Never ends a request: a guest that goes beyond traps, and that is for others to answer.

use std::time::Duration;

use wasmtime::{Engine, ResourceLimiter, Result, Store, UpdateDeadline, ensure};

use crate::computing::ComputingTime;

/// The most bytes of one linear memory: a body of 16 MiB, twice that while its buffer grows, and
/// the rest for the guest itself.
pub(crate) const MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// The most linear memory of one guest, in bytes: of a peer, and of a sink that is composed with
/// it and holds an event of its own, and another one to compare it with.
const ALL_MEMORY_BYTES: usize = 2 * MEMORY_BYTES;

/// How much linear memory a guest may keep for its next request, in bytes, beyond what it started
/// with. One that has grown by more, by a large body, is replaced.
const KEPT_MEMORY_BYTES: usize = 512 * 1024;

/// How long a guest may compute for one request, not counting when it waits. The largest body takes
/// the built-in one less than a tenth of a second.
const MAX_COMPUTING_TIME: Duration = Duration::from_secs(5);

/// What the store of a guest holds, so that it can be held within limits.
pub(crate) trait Watched: Send + 'static {
    fn memory(&mut self) -> &mut MemoryLimit;
    fn computing(&self) -> &ComputingTime;
}

/// A store whose guest stays within its limits.
pub(crate) fn store<S: Watched>(engine: &Engine, state: S) -> Store<S> {
    let mut store = Store::new(engine, state);
    store.limiter(|state| state.memory());
    // Called where the guest goes on after a tick.
    store.epoch_deadline_callback(|store| {
        ensure!(
            store.data().computing().total() <= MAX_COMPUTING_TIME,
            "it computed for more than {MAX_COMPUTING_TIME:?}"
        );
        Ok(UpdateDeadline::Yield(1))
    });
    store.set_epoch_deadline(1);
    store
}

/// Counts the linear memory of all modules of a guest, and holds it under [`ALL_MEMORY_BYTES`].
#[derive(Default)]
pub(crate) struct MemoryLimit {
    bytes: usize,
    /// What it started with: a sink that brings a language of its own brings megabytes of it.
    initial_bytes: usize,
}

impl MemoryLimit {
    /// Takes what the guest has by now as what it started with.
    pub(crate) fn settle(&mut self) {
        self.initial_bytes = self.bytes;
    }

    /// Whether the guest has grown so little that it may be kept.
    pub(crate) fn is_small(&self) -> bool {
        self.bytes - self.initial_bytes <= KEPT_MEMORY_BYTES
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        let bytes = self.bytes.saturating_add(desired.saturating_sub(current));
        let grows = bytes <= ALL_MEMORY_BYTES;
        if grows {
            self.bytes = bytes;
        } else {
            tracing::warn!(
                bytes,
                limit = ALL_MEMORY_BYTES,
                "the guest may not have so much memory"
            );
        }
        Ok(grows)
    }

    fn table_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }
}
