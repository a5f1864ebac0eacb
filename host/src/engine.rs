//! The engine that compiles a component and runs its instances, with room for all of them.
//!
//! Never sees a component.

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result};

use crate::guest_limits::MEMORY_BYTES;

/// Core instances and tables that one component may have. The built-in one needs 3 and 2, composed
/// ones some more, and one with a sink in JavaScript up to 22.
const CORE_INSTANCES: u32 = 32;

/// Memories that one component may have: a peer and sinks composed with it.
const MEMORIES: u32 = 4;

/// An engine with a slot for every guest, or one that allocates each guest anew where the system
/// does not lend so much address space.
pub(crate) fn engine(in_flight: u32) -> Result<Engine> {
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
        // A slot whose guest is gone keeps nothing resident, or a burst would leave all of them so. The
        // guests that are in use are kept, in `instances`.
        .linear_memory_keep_resident(0)
        .table_keep_resident(0)
        .async_stack_keep_resident(0);
    // Only where the guest is gone: as long as it is kept, so is its stack.
    config.async_stack_zeroing(true);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).or_else(|error| {
        tracing::warn!(%error, "no pool for guests: each is allocated anew, which is slower");
        config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
        Engine::new(&config)
    })
}
