//! The WebAssembly component: compiled, kept as instances, and called through either of its entry
//! points.

pub(crate) mod compile_cache;
pub(crate) mod compiled_component;
pub(crate) mod cpu_time;
mod engine;
pub(crate) mod loaded_component;
pub(crate) mod pool;
mod store_limits;

pub(crate) mod protocol;
mod protocol_exports;

pub(crate) mod incoming_handler;
mod outbound_http;
pub(crate) mod put_sink;
pub(crate) mod wasi;

pub use compiled_component::{BUILT_IN_COMPONENT, CompiledComponent};
pub use loaded_component::precompile;
