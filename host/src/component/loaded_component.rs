//! Loads a component: reads it, compiles it, and links it for its entry point.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Handle;
use wasmtime::component::Component;
use wasmtime::{Engine, Result};

use crate::component::compile_cache::CompileCache;
use crate::component::compiled_component::{BUILT_IN_COMPONENT, CompiledComponent};
use crate::component::cpu_time::EpochTicker;
use crate::component::engine::{InstanceSlots, compile_binary, engine, ensure_binary};
use crate::component::incoming_handler::{IncomingHandlerFactory, IncomingHandlerPre};
use crate::component::pool::{InstancePool, PoolConfig};
use crate::component::protocol::{CallMode, ProtocolPre};
use crate::component::put_sink::PUT_SINK;
use crate::component::put_sink::protocol::Response;
use crate::component::store_limits::StoreLimits;
use crate::component::wasi::WasiConfig;
use crate::error::Error;
use crate::limits::Limits;
use crate::metrics::instances::InstanceCounts;
use crate::sink::dispatcher::SinkDispatcher;
use crate::util::regular_file;

/// The source of a component.
#[derive(Debug, Clone)]
pub(crate) enum ComponentSource {
    BuiltIn,
    Bytes(Vec<u8>),
    File(PathBuf),
    Compiled(CompiledComponent),
}

impl ComponentSource {
    /// Reads, compiles and links a component, on a thread for blocking work.
    pub(crate) async fn load(
        self,
        limits: Limits,
        cache: Option<CompileCache>,
        mut wasi: WasiConfig,
    ) -> std::result::Result<LoadedComponent, Error> {
        let name = self.to_string();
        let loading = tokio::task::spawn_blocking(move || {
            // A directory that cannot be opened is an error at the start, not for the first client.
            wasi.preopen()?;
            wasi.build_ctx()?;
            load(&self, &limits, cache, wasi)
        });
        let loaded = match loading.await {
            Ok(loaded) => loaded,
            Err(error) => Err(error.into()),
        };
        loaded.map_err(|error: wasmtime::Error| Error::Component {
            component: name,
            source: error.into(),
        })
    }

    /// Compiles it, or takes the code that was compiled before.
    fn compile(&self, engine: &Engine, cache: Option<CompileCache>) -> Result<Component> {
        let binary: Cow<'_, [u8]> = match self {
            Self::BuiltIn => BUILT_IN_COMPONENT.into(),
            Self::Bytes(bytes) => bytes.into(),
            Self::File(path) => {
                regular_file::check(path)?;
                fs::read(path)?.into()
            }
            Self::Compiled(compiled) => return compiled.load(engine),
        };
        ensure_binary(&binary)?;
        match cache {
            Some(cache) => cache.load_or_compile(engine, &binary),
            None if *binary == *BUILT_IN_COMPONENT => CompiledComponent::built_in()?.load(engine),
            None => compile_binary(engine, &binary),
        }
    }
}

/// A compiled component, linked with all of its imports, in the engine of one server.
pub(crate) struct LoadedComponent {
    component: Component,
    ticker: EpochTicker,
    factory: Factory,
    pool_config: PoolConfig,
}

enum Factory {
    Protocol(ProtocolPre),
    WasiHttp(IncomingHandlerPre),
}

/// The instances of a component, by the entry point that they are called through.
pub(crate) enum EntryPoint {
    Protocol(InstancePool<ProtocolPre>),
    WasiHttp(InstancePool<IncomingHandlerFactory>),
}

impl LoadedComponent {
    /// Whether the component imports `put-sink`. If not, it has a sink of its own.
    pub(crate) fn needs_sink(&self) -> bool {
        let component = self.component.component_type();
        let mut imports = component.imports(self.component.engine());
        imports.any(|(name, _)| name.starts_with(PUT_SINK))
    }

    /// A pool of its instances, which put into the sink of `dispatcher` if they import `put-sink`.
    pub(crate) fn into_pool(
        self,
        dispatcher: &SinkDispatcher,
        counts: Arc<InstanceCounts>,
    ) -> EntryPoint {
        let (ticker, config) = (self.ticker, self.pool_config);
        match self.factory {
            Factory::Protocol(factory) => {
                EntryPoint::Protocol(InstancePool::new(factory, ticker, config, counts))
            }
            Factory::WasiHttp(component) => {
                let factory = component.with_sink(dispatcher.clone());
                EntryPoint::WasiHttp(InstancePool::new(factory, ticker, config, counts))
            }
        }
    }
}

impl EntryPoint {
    /// As for [`InstancePool::permits_in_use`].
    pub(crate) fn permits_in_use(&self) -> u32 {
        match self {
            Self::Protocol(pool) => pool.permits_in_use(),
            Self::WasiHttp(pool) => pool.permits_in_use(),
        }
    }

    /// As for [`ProtocolPre::stored_response`]. Another entry point has none.
    pub(crate) fn stored_response(&self) -> Option<&Response> {
        match self {
            Self::Protocol(pool) => pool.factory().stored_response(),
            Self::WasiHttp(_) => None,
        }
    }

    /// As for [`InstancePool::trim`].
    pub(crate) fn trim(&self) {
        match self {
            Self::Protocol(pool) => pool.trim(),
            Self::WasiHttp(pool) => pool.trim(),
        }
    }
}

/// Compiles a component into a directory for compiled components, the
/// [`compile_cache`](crate::PeerServerBuilder::compile_cache) of a server, so that the server need not
/// compile it. Blocks while it compiles.
///
/// # Errors
///
/// When the component cannot be compiled, or cannot be written there.
pub fn precompile(component: &[u8], directory: &Path) -> std::result::Result<(), Error> {
    let cache = CompileCache::open(directory)?;
    let failed = |error: wasmtime::Error| Error::Component {
        component: format!("of {} bytes", component.len()),
        source: error.into(),
    };
    ensure_binary(component).map_err(failed)?;
    let engine = engine(pool_config(&Limits::DEFAULT), InstanceSlots::MAX).map_err(failed)?;
    cache.load_or_compile(&engine, component).map_err(failed)?;
    cache.check_stored(&engine, component)
}

fn load(
    source: &ComponentSource,
    limits: &Limits,
    cache: Option<CompileCache>,
    wasi: WasiConfig,
) -> Result<LoadedComponent> {
    let pool_config = pool_config(limits);
    // The built-in component takes time in proportion to the length of a body, so its calls may block.
    let (slots, mode) = match source {
        ComponentSource::BuiltIn => (InstanceSlots::BUILT_IN, CallMode::Blocking),
        _ => (InstanceSlots::MAX, CallMode::Async),
    };
    let engine = engine(pool_config, slots)?;
    let component = source.compile(&engine, cache)?;
    let limits = StoreLimits {
        memory_bytes: usize::try_from(limits.max_guest_memory_bytes).unwrap_or(usize::MAX),
        cpu_time: limits.max_guest_time,
    };
    let ticker = EpochTicker::start(&engine)?;
    let protocol = ProtocolPre::new(&engine, &component, limits, &ticker, mode);
    let factory = match Handle::current().block_on(protocol)? {
        Some(factory) => Factory::Protocol(factory),
        None => Factory::WasiHttp(IncomingHandlerPre::new(&engine, &component, limits, wasi)?),
    };
    Ok(LoadedComponent {
        component,
        ticker,
        factory,
        pool_config,
    })
}

fn pool_config(limits: &Limits) -> PoolConfig {
    PoolConfig {
        max_concurrent_requests: limits.max_concurrent_requests,
        max_reuse_count: limits.max_instance_reuse_count,
    }
}

impl std::fmt::Display for ComponentSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BuiltIn => formatter.write_str("of this program"),
            Self::Compiled(compiled) => compiled.fmt(formatter),
            Self::Bytes(bytes) => write!(formatter, "of {} bytes", bytes.len()),
            Self::File(path) => path.display().fmt(formatter),
        }
    }
}
