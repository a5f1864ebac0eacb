//! The engine that compiles a component and runs its instances, with room for all of them.
//!
//! Never sees a component.

use std::path::PathBuf;

use wasmtime::error::Context as _;
use wasmtime::{
    Cache, CacheConfig, Config, Enabled, Engine, InstanceAllocationStrategy,
    PoolingAllocationConfig, Result,
};

use crate::limits::MEMORY_BYTES;

/// How much of a slot's memory stays resident between two guests, in bytes: what a guest touches
/// for a small event. Clearing it costs less than faulting it in again.
const RESIDENT_BYTES: usize = 256 * 1024;

/// Core instances and tables that one component may have. The built-in one needs 3 and 2, composed
/// ones some more, and one with a sink in JavaScript up to 22.
const CORE_INSTANCES: u32 = 32;

/// Memories that one component may have: a peer and sinks composed with it.
const MEMORIES: u32 = 4;

/// Where compiled components are kept from one start of a server to the next.
///
/// Whoever can write there can have the server run any code.
#[derive(Debug, Clone, Default)]
pub(crate) enum CompileCache {
    /// Nowhere.
    #[default]
    None,
    /// In the place that wasmtime has for it, below the user's directory for caches. Without such a
    /// place, nowhere.
    User,
    Directory(PathBuf),
}

impl CompileCache {
    fn open(&self) -> Result<Option<Cache>> {
        let mut config = CacheConfig::new();
        match self {
            Self::None => Ok(None),
            Self::User => Ok(Cache::new(config)
                .inspect_err(|error| tracing::info!("compiled components are not kept: {error:#}"))
                .ok()),
            Self::Directory(path) => {
                let failed = || format!("cannot keep compiled components in {}", path.display());
                config.with_directory(std::path::absolute(path).with_context(failed)?);
                Cache::new(config).with_context(failed).map(Some)
            }
        }
    }
}

/// An engine with a slot for every guest, or one that allocates each guest anew where the system
/// does not lend so much address space.
pub(crate) fn engine(in_flight: u32, cache: &CompileCache) -> Result<Engine> {
    let mut config = Config::new();
    config.concurrency_support(false).epoch_interruption(true);
    config.cache(cache.open()?);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(in_flight)
        .total_core_instances(in_flight.saturating_mul(CORE_INSTANCES))
        .total_memories(in_flight.saturating_mul(MEMORIES))
        .total_tables(in_flight.saturating_mul(CORE_INSTANCES))
        .total_stacks(in_flight)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(CORE_INSTANCES)
        .max_memory_size(MEMORY_BYTES)
        .linear_memory_keep_resident(RESIDENT_BYTES)
        .table_keep_resident(RESIDENT_BYTES)
        // Finds the pages that a guest wrote to, so that only those are cleared.
        .pagemap_scan(Enabled::Auto);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).or_else(|error| {
        tracing::warn!(%error, "no pool for guests: each is allocated anew, which is slower");
        config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
        Engine::new(&config)
    })
}
