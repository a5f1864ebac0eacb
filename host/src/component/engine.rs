//! The engine that compiles a component and runs its instances, with room for all of them.
//!
//! Never sees a component.

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result,
};

use crate::component::store_limits::MEMORY_BYTES;

/// Core instances and tables that one component may have. The built-in one needs 3 and 2, composed
/// ones some more, and one with a sink in JavaScript up to 22.
const CORE_INSTANCES: u32 = 32;

/// Memories that one component may have: a peer and sinks composed with it.
const MEMORIES: u32 = 4;

/// How much of a slot's memory stays resident between two guests that are used seldom, in bytes: what a
/// guest touches for a small event. Clearing it costs less than faulting it in again.
const RESIDENT_BYTES: usize = 256 * 1024;

/// From how many calls of a guest on that saves less than one part in a thousand of them. Then a slot whose
/// guest is gone keeps nothing resident, or a burst would leave all of them so.
const MANY_CALLS: u32 = 100;

/// An engine with a slot for every guest, or one that allocates each guest anew where the system
/// does not have so much address space.
pub(crate) fn engine(in_flight: u32, max_instance_reuse_count: u32) -> Result<Engine> {
    let is_seldom_reused = max_instance_reuse_count < MANY_CALLS;
    let resident_bytes = if is_seldom_reused { RESIDENT_BYTES } else { 0 };
    let mut config = Config::new();
    config.concurrency_support(false).epoch_interruption(true);
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
        .linear_memory_keep_resident(resident_bytes)
        .table_keep_resident(resident_bytes)
        // Finds the pages that a guest wrote to, so that only those are cleared.
        .pagemap_scan(Enabled::Auto)
        .async_stack_keep_resident(0);
    config.async_stack_zeroing(!is_seldom_reused);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).or_else(|error| {
        tracing::warn!(%error, "no pool for guests: each is allocated anew, which is slower");
        config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
        Engine::new(&config)
    })
}
