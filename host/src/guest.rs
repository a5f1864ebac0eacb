//! The guest: where a component comes from, and how it is compiled, once.
//!
//! Knows which of the two ways a component is called: `direct` or, through `wasi:http`, `proxy`. Never
//! calls it.

use std::borrow::Cow;
use std::fs;
use std::path::PathBuf;

use wasmtime::component::Component;
use wasmtime::{Cache, Result, ensure};

use crate::computing::Clock;
use crate::direct::DirectPre;
use crate::engine::engine;
use crate::error::Error;
use crate::guest_limits::GuestLimits;
use crate::instances::{Guests, Instances, Lending};
use crate::limits::Limits;
use crate::local::Local;
use crate::proxy::WholePre;
use crate::put_sink::PUT_SINK;
use crate::world::World;

/// The component that this crate was built with: what
/// [`component`](crate::PeerServerBuilder::component) replaces.
pub static BUILT_IN_COMPONENT: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/components/peer.wasm"));

/// What every WebAssembly binary starts with.
const WASM_MAGIC: &[u8] = b"\0asm";

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
        cache: Option<Cache>,
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
                Guests::direct(Local::new(Instances::new(pre, self.clock, lending)))
            }
            Way::Whole(pre) => Guests::Whole(Local::new(Instances::new(pre, self.clock, lending))),
        }
    }
}

fn compile(source: &Source, limits: &Limits, cache: Option<Cache>, world: World) -> Result<Guest> {
    let binary: Cow<'_, [u8]> = match source {
        Source::BuiltIn => BUILT_IN_COMPONENT.into(),
        Source::Bytes(bytes) => bytes.into(),
        Source::File(path) => fs::read(path)?.into(),
    };
    ensure!(
        binary.starts_with(WASM_MAGIC),
        "it is no WebAssembly binary: it does not start with \\0asm"
    );
    let engine = engine(limits.max_in_flight, cache)?;
    let component = Component::from_binary(&engine, &binary)?;
    let limits = GuestLimits {
        memory_bytes: usize::try_from(limits.max_guest_memory_bytes).unwrap_or(usize::MAX),
        time: limits.max_guest_time,
    };
    let way = match DirectPre::new(&engine, &component, limits)? {
        Some(pre) => Way::Direct(pre),
        None => Way::Whole(WholePre::new(&engine, &component, limits, world)?),
    };
    let clock = Clock::start(&engine)?;
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
