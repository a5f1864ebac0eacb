//! The guest: compiled once, instantiated as often as needed, one request at a time.
//!
//! Never looks at an answer: what the guest says is passed on as it is. What a guest may import
//! is in `imports`.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, thread};

use hyper::Request;
use hyper::body::{Body, Bytes};
use tokio::sync::oneshot;
use wasmtime::component::Component;
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result, Store,
    UpdateDeadline, ensure,
};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::error::Error;
use crate::imports::{self, MEMORY_BYTES, State};
use crate::outgoing::OutgoingRequests;
use crate::put_sink::PutSinkContext;
use crate::world::World;

/// The component that this crate was built with: what
/// [`component`](crate::PeerServerBuilder::component) replaces.
pub static BUILT_IN_COMPONENT: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/components/peer.wasm"));

/// The name of the interface of sinks, without its version.
const PUT_SINK: &str = "alldata:peer/put-sink@";

/// What every WebAssembly binary starts with.
const WASM_MAGIC: &[u8] = b"\0asm";

/// How much linear memory a guest may keep for its next request, in bytes, beyond what it started
/// with. One that has grown by more, by a large body, is replaced.
const KEPT_MEMORY_BYTES: usize = 512 * 1024;

/// How much of a slot's memory stays resident between two guests, in bytes: what a guest touches
/// for a small event. Clearing it costs less than faulting it in again.
const RESIDENT_BYTES: usize = 256 * 1024;

/// Core instances and tables that one component may have. The built-in one needs 3 and 2, composed
/// ones some more, and one with a sink in JavaScript up to 22.
const CORE_INSTANCES: u32 = 32;

/// Memories that one component may have: a peer and sinks composed with it.
const MEMORIES: u32 = 4;

/// How often the clock of an engine ticks: at a tick a guest that computes lets others run, and its
/// time is checked.
const TICK: Duration = Duration::from_millis(100);

/// How long a guest may compute for one request, not counting when it waits. The largest body takes
/// the built-in one less than a tenth of a second.
const MAX_COMPUTING_TIME: Duration = Duration::from_secs(5);

/// What a handler answers.
pub(crate) type Response = hyper::Response<HyperOutgoingBody>;

/// What the guest set as its answer: an error where it reports one instead of a response.
pub(crate) type GuestAnswer = std::result::Result<Response, ErrorCode>;

/// Where a component comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    BuiltIn,
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Source {
    /// Compiles a component for at most `in_flight` instances at a time, off the runtime's threads.
    pub(crate) async fn compile(
        self,
        in_flight: u32,
        mut world: World,
    ) -> std::result::Result<Guest, Error> {
        let name = self.to_string();
        let compiling = tokio::task::spawn_blocking(move || {
            // So that what can't be opened is told now, and not to the first client.
            world.settle()?;
            world.open()?;
            let pre = compile(&self, in_flight)?;
            let outgoing = OutgoingRequests::new();
            Ok(Guest {
                pre,
                world,
                outgoing,
            })
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
    pre: ProxyPre<State>,
    world: World,
    outgoing: OutgoingRequests,
}

impl Guest {
    /// Whether it puts into a sink of the host, and not into one of its own.
    pub(crate) fn needs_sink(&self) -> bool {
        let component = self.pre.instance_pre().component().component_type();
        let mut imports = component.imports(self.pre.engine());
        imports.any(|(name, _)| name.starts_with(PUT_SINK))
    }

    /// A new instance that puts into `sink`.
    pub(crate) async fn instantiate(&self, sink: PutSinkContext) -> Result<Instance> {
        let state = State::new(self.world.open()?, self.outgoing.clone(), sink);
        let mut store = Store::new(self.pre.engine(), state);
        store.limiter(|state| &mut state.memory);
        let computing = Arc::clone(&store.data().computing);
        // Called where the guest goes on after a tick.
        store.epoch_deadline_callback(|store| {
            ensure!(
                store.data().computing.total() <= MAX_COMPUTING_TIME,
                "it computed for more than {MAX_COMPUTING_TIME:?}"
            );
            Ok(UpdateDeadline::Yield(1))
        });
        store.set_epoch_deadline(1);
        let instantiating = self.pre.instantiate_async(&mut store);
        let proxy = computing.measure(instantiating).await?;
        let initial_memory_bytes = store.data().memory.bytes();
        Ok(Instance {
            store,
            proxy,
            initial_memory_bytes,
        })
    }
}

/// A guest that takes one request at a time.
pub(crate) struct Instance {
    store: Store<State>,
    proxy: Proxy,
    /// What it started with: a sink that brings a language of its own brings megabytes of it.
    initial_memory_bytes: usize,
}

impl Instance {
    /// Lets the guest handle `request`. The answer comes through `answer`, maybe before the guest
    /// is done; a guest that sets none drops it. An error is a trap: the instance is spoilt.
    pub(crate) async fn handle<B>(
        &mut self,
        request: Request<B>,
        answer: oneshot::Sender<GuestAnswer>,
    ) -> Result<()>
    where
        B: Body<Data = Bytes, Error = wasmtime_wasi_http::Error> + Send + 'static,
    {
        let mut http = self.store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request)?;
        let out = http.new_response_outparam(answer)?;
        let computing = Arc::clone(&self.store.data().computing);
        let handler = self.proxy.wasi_http_incoming_handler();
        computing
            .measure(handler.call_handle(&mut self.store, request, out))
            .await
    }

    /// Whether the guest left nothing behind that its next request would pay for.
    pub(crate) fn is_clean(&self) -> bool {
        let state = self.store.data();
        let grown = state.memory.bytes() - self.initial_memory_bytes;
        state.table.is_empty() && grown <= KEPT_MEMORY_BYTES
    }
}

fn compile(source: &Source, in_flight: u32) -> Result<ProxyPre<State>> {
    let binary: Cow<'_, [u8]> = match source {
        Source::BuiltIn => BUILT_IN_COMPONENT.into(),
        Source::Bytes(bytes) => bytes.into(),
        Source::File(path) => fs::read(path)?.into(),
    };
    ensure!(
        binary.starts_with(WASM_MAGIC),
        "it is no WebAssembly binary: it does not start with \\0asm"
    );
    let engine = engine(in_flight)?;
    start_clock(&engine)?;
    let component = Component::from_binary(&engine, &binary)?;
    ProxyPre::new(imports::linker(&engine)?.instantiate_pre(&component)?)
}

/// Lets an engine's clock tick for as long as the engine is used.
fn start_clock(engine: &Engine) -> Result<()> {
    let engine = engine.weak();
    thread::Builder::new()
        .name("guest-clock".to_owned())
        .spawn(move || {
            loop {
                thread::sleep(TICK);
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        })?;
    Ok(())
}

/// An engine with a slot for every guest, or one that allocates each guest anew where the system
/// does not lend so much address space.
fn engine(in_flight: u32) -> Result<Engine> {
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
        .linear_memory_keep_resident(RESIDENT_BYTES)
        .table_keep_resident(RESIDENT_BYTES);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).or_else(|error| {
        tracing::warn!(%error, "no pool for guests: each is allocated anew, which is slower");
        config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
        Engine::new(&config)
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
