//! The engine that compiles a component and allocates its instances.

use std::time::Instant;

use wasmtime::component::Component;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result, ensure,
};

use crate::component::pool::PoolConfig;
use crate::component::store_limits::MAX_MEMORY_BYTES;

/// The slots that one instance of a component takes in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InstanceSlots {
    core_instances: u32,
    memories: u32,
    tables: u32,
}

impl InstanceSlots {
    /// Those of the built-in component. A pool takes 50 to 100 bytes for each slot from its start.
    pub(crate) const BUILT_IN: Self = Self {
        core_instances: 4,
        memories: 1,
        tables: 2,
    };

    /// The most that a component may take: a peer and sinks composed with it, of which one in JavaScript has up to 22
    /// core instances.
    pub(crate) const MAX: Self = Self {
        core_instances: 32,
        memories: 4,
        tables: 32,
    };
}

/// How many bytes of a slot's memory stay resident after its instance is dropped, if instances are rarely
/// reused: the pages that a guest touches for a small event. Clearing them costs less than faulting them in
/// again.
const RESIDENT_BYTES: usize = 256 * 1024;

/// The number of calls of an instance at which that saves less than a thousandth of each. From then on a slot
/// without an instance keeps nothing resident, since a burst would leave all slots like that.
const MANY_CALLS: u32 = 100;

/// The start of every WebAssembly binary.
const WASM_MAGIC: &[u8] = b"\0asm";

/// The size in bytes from which the start and the end of compiling are logged: it takes 3 s and more for a
/// million bytes.
const LARGE_COMPONENT_BYTES: usize = 1024 * 1024;

/// An engine with the slots of every instance, or, if the system has too little address space for that, one
/// that allocates each instance on demand.
pub(crate) fn engine(instances: PoolConfig, slots: InstanceSlots) -> Result<Engine> {
    let max_instances = instances.max_concurrent_requests;
    let is_rarely_reused = instances.max_reuse_count < MANY_CALLS;
    let resident_bytes = if is_rarely_reused { RESIDENT_BYTES } else { 0 };
    let mut config = config();
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(max_instances)
        .total_core_instances(max_instances.saturating_mul(slots.core_instances))
        .total_memories(max_instances.saturating_mul(slots.memories))
        .total_tables(max_instances.saturating_mul(slots.tables))
        .total_stacks(max_instances)
        .max_core_instances_per_component(slots.core_instances)
        .max_memories_per_component(slots.memories)
        .max_tables_per_component(slots.tables)
        .max_memory_size(MAX_MEMORY_BYTES)
        .linear_memory_keep_resident(resident_bytes)
        .table_keep_resident(resident_bytes)
        // Finds the pages that a guest wrote to, so that only those are cleared.
        .pagemap_scan(Enabled::Auto)
        .async_stack_keep_resident(0);
    config.async_stack_zeroing(!is_rarely_reused);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).or_else(|error| {
        tracing::warn!(%error, "cannot reserve a pool of instances: each is allocated on demand, which is slower");
        config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
        Engine::new(&config)
    })
}

/// An engine that only compiles: what it compiles, the engine of a server loads.
pub(crate) fn compiler() -> Result<Engine> {
    Engine::new(&config())
}

/// The settings that compiled code depends on.
fn config() -> Config {
    let mut config = Config::new();
    config.concurrency_support(false).epoch_interruption(true);
    config
}

/// Refuses bytes that are not a binary: wasmtime may take the text format too.
pub(crate) fn ensure_binary(bytes: &[u8]) -> Result<()> {
    ensure!(
        bytes.starts_with(WASM_MAGIC),
        "it is not a WebAssembly binary: it does not start with \\0asm"
    );
    Ok(())
}

/// Compiles a component; for a large one, which takes a while, start and end are logged.
pub(crate) fn compile_binary(engine: &Engine, binary: &[u8]) -> Result<Component> {
    let (bytes, started) = (binary.len(), Instant::now());
    if bytes >= LARGE_COMPONENT_BYTES {
        tracing::info!("compiling the component of {bytes} bytes, which may take a while");
    }
    let component = Component::from_binary(engine, binary)?;
    if bytes >= LARGE_COMPONENT_BYTES {
        let seconds = started.elapsed().as_secs_f64();
        tracing::info!("compiled the component in {seconds:.1} s");
    }
    Ok(component)
}
