//! The guest: where a component comes from, and how it is compiled, once.
//!
//! Knows which of the two ways a component is called: `direct` or, through `wasi:http`, `proxy`. Never
//! calls it.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::runtime::Handle;
use wasmtime::component::Component;
use wasmtime::{Engine, Result, Trap, ensure};

use crate::component::compile_cache::CompileCache;
use crate::component::cpu_time::Clock;
use crate::component::engine::engine;
use crate::component::incoming_handler::WholePre;
use crate::component::pool::{Guests, Instances, Lending};
use crate::component::protocol::DirectPre;
use crate::component::put_sink::PUT_SINK;
use crate::component::store_limits::GuestLimits;
use crate::component::wasi::World;
use crate::error::Error;
use crate::limits::{DEFAULT_MAX_CONCURRENT_REQUESTS, DEFAULT_MAX_INSTANCE_REUSE_COUNT, Limits};
use crate::util::local::Local;
use crate::util::regular_file;

/// The component that this crate was built with: what
/// [`component`](crate::PeerServerBuilder::component) replaces.
pub static BUILT_IN_COMPONENT: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/components/peer.wasm"));

/// What every WebAssembly binary starts with.
const WASM_MAGIC: &[u8] = b"\0asm";

/// The size in bytes from which on compiling is said: that takes 3 s and more for a million bytes.
const LARGE_COMPONENT_BYTES: usize = 1024 * 1024;

/// Where a component comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    BuiltIn,
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Source {
    /// Compiles a component for as many instances at a time as `limits` say, off the runtime's
    /// threads.
    pub(crate) async fn compile(
        self,
        limits: Limits,
        cache: Option<CompileCache>,
        mut world: World,
    ) -> std::result::Result<Guest, Error> {
        let name = self.to_string();
        let compiling = tokio::task::spawn_blocking(move || {
            // So that what can't be opened is told now, and not to the first client.
            world.settle()?;
            world.open()?;
            compile(&self, &limits, cache, world)
        });
        let compiled = match compiling.await {
            Ok(compiled) => compiled,
            Err(error) => Err(error.into()),
        };
        compiled.map_err(|error: wasmtime::Error| Error::Component {
            component: name,
            source: error.into(),
        })
    }
}

/// A compiled component with everything that it imports, ready to be instantiated.
pub(crate) struct Guest {
    component: Component,
    clock: Clock,
    way: Way,
}

/// How a component is called.
enum Way {
    Direct(DirectPre),
    Whole(WholePre),
}

impl Guest {
    /// Whether it puts into a sink of the host, and not into one of its own.
    pub(crate) fn needs_sink(&self) -> bool {
        let component = self.component.component_type();
        let mut imports = component.imports(self.component.engine());
        imports.any(|(name, _)| name.starts_with(PUT_SINK))
    }

    /// Its instances.
    pub(crate) fn lend(self, lending: Lending) -> Guests {
        match self.way {
            Way::Direct(pre) => {
                let instances = Local::new(Instances::new(pre, self.clock, lending));
                Instances::trim_in_background(&instances);
                Guests::direct(instances)
            }
            Way::Whole(pre) => {
                let instances = Local::new(Instances::new(pre, self.clock, lending));
                Instances::trim_in_background(&instances);
                Guests::Whole(instances)
            }
        }
    }
}

/// Compiles a component into a directory that keeps such, the
/// [`compile_cache`](crate::PeerServerBuilder::compile_cache) of a server, so that the server starts
/// without compiling it. Blocks until it is compiled.
///
/// # Errors
///
/// When the component can't be compiled, or not be kept there.
pub fn precompile(component: &[u8], directory: &Path) -> std::result::Result<(), Error> {
    let cache = CompileCache::open(directory)?;
    let failed = |error: wasmtime::Error| Error::Component {
        component: format!("of {} bytes", component.len()),
        source: error.into(),
    };
    ensure_binary(component).map_err(failed)?;
    let engine = engine(
        DEFAULT_MAX_CONCURRENT_REQUESTS,
        DEFAULT_MAX_INSTANCE_REUSE_COUNT,
    )
    .map_err(failed)?;
    cache.load_or_compile(&engine, component).map_err(failed)?;
    cache.check_kept(&engine, component)
}

/// Compiles a component. That of a large one is said, since it takes a while.
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

fn ensure_binary(bytes: &[u8]) -> Result<()> {
    ensure!(
        bytes.starts_with(WASM_MAGIC),
        "it is no WebAssembly binary: it does not start with \\0asm"
    );
    Ok(())
}

fn compile(
    source: &Source,
    limits: &Limits,
    cache: Option<CompileCache>,
    world: World,
) -> Result<Guest> {
    let binary: Cow<'_, [u8]> = match source {
        Source::BuiltIn => BUILT_IN_COMPONENT.into(),
        Source::Bytes(bytes) => bytes.into(),
        Source::File(path) => {
            regular_file::check(path)?;
            fs::read(path)?.into()
        }
    };
    ensure_binary(&binary)?;
    let engine = engine(
        limits.max_concurrent_requests,
        limits.max_instance_reuse_count,
    )?;
    let component = match cache {
        Some(cache) => cache.load_or_compile(&engine, &binary)?,
        None => compile_binary(&engine, &binary)?,
    };
    let limits = GuestLimits {
        memory_bytes: usize::try_from(limits.max_guest_memory_bytes).unwrap_or(usize::MAX),
        time: limits.max_guest_time,
    };
    let way = match DirectPre::new(&engine, &component, limits)? {
        Some(pre) => Way::Direct(pre),
        None => Way::Whole(WholePre::new(&engine, &component, limits, world)?),
    };
    let clock = Clock::start(&engine)?;
    if let Way::Direct(pre) = &way {
        let tried = Handle::current().block_on(pre.try_out(&clock));
        // A lack of address space is told now, and not to each client. A trap is the component's own
        // doing, and may not come again.
        if let Err(error) = tried
            && !error.is::<Trap>()
        {
            return Err(error.context("no instance of it can be made"));
        }
    }
    Ok(Guest {
        component,
        clock,
        way,
    })
}

impl std::fmt::Display for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BuiltIn => formatter.write_str("of this program"),
            Self::Bytes(bytes) => write!(formatter, "of {} bytes", bytes.len()),
            Self::File(path) => path.display().fmt(formatter),
        }
    }
}
