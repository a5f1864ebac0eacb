//! The sink components over `wasi:keyvalue`, uncomposed, on buckets in the memory of the test.
//!
//! Every call that reads or writes waits for its turn first, so that a test can interleave puts in any order:
//! see `scheduling`.

mod memory;
mod spin;
mod store_host;
mod wasmcloud;

use std::future::Future;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use alldata_peer_server_http::PutError;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, PoolingAllocationConfig, Store};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::scheduling;
use memory::{Caller, Crash};
pub(crate) use memory::{Fault, How, Memory, StoreError};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "sink",
        exports: { default: async },
    });
}

use bindings::SinkPre;
use bindings::exports::alldata::peer::put_sink;

/// The fuel of a put, in instructions: a guest that does not stop runs out of it.
const FUEL: u64 = 1_000_000_000;

/// The most instances at a time, of all tests that run at once.
const MAX_INSTANCES: u32 = 200;

/// The most that a put may write to standard error.
const LOG_BYTES: usize = 1 << 20;

/// A platform with its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Platform {
    /// Spin with its default store.
    SpinSqlite,
    SpinRedis,
    WasmCloud,
}

impl Platform {
    pub(crate) const ALL: [Self; 3] = [Self::SpinSqlite, Self::SpinRedis, Self::WasmCloud];

    /// The platforms with a compare-and-swap.
    pub(crate) const SPIN: [Self; 2] = [Self::SpinSqlite, Self::SpinRedis];

    /// The name of its sink.
    pub(crate) fn sink(self) -> &'static str {
        match self {
            Self::SpinSqlite | Self::SpinRedis => "keyvalue-spin",
            Self::WasmCloud => "keyvalue-wasmcloud",
        }
    }
}

static SPIN: LazyLock<SinkPre<State>> = LazyLock::new(|| {
    prepare(include_bytes!(concat!(
        env!("OUT_DIR"),
        "/components/keyvalue-spin.wasm"
    )))
});

static WASMCLOUD: LazyLock<SinkPre<State>> = LazyLock::new(|| {
    prepare(include_bytes!(concat!(
        env!("OUT_DIR"),
        "/components/keyvalue-wasmcloud.wasm"
    )))
});

fn prepare(component: &[u8]) -> SinkPre<State> {
    // There are thousands of instances, and memory from a pool is cheaper.
    let mut pool = PoolingAllocationConfig::new();
    pool.total_memories(MAX_INSTANCES)
        .total_stacks(MAX_INSTANCES);
    let mut config = Config::new();
    config.consume_fuel(true).allocation_strategy(pool);
    let engine = Engine::new(&config).expect("makes an engine");
    let component = Component::new(&engine, component).expect("compiles");
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("adds WASI");
    spin::add_to_linker(&mut linker).expect("adds Spin's draft");
    wasmcloud::add_to_linker(&mut linker).expect("adds wasmCloud's draft");
    let instance = linker.instantiate_pre(&component);
    SinkPre::new(instance.expect("imports what there is")).expect("exports put-sink")
}

/// A sink component and its buckets, which its clones share.
#[derive(Clone)]
pub(crate) struct Sink {
    platform: Platform,
    memory: Arc<Mutex<Memory>>,
    variables: Vec<(String, String)>,
}

/// The result of a put.
#[derive(Debug, PartialEq)]
pub(crate) struct Put {
    /// `None` if it crashed, as a test asked for.
    pub(crate) answer: Option<Result<(), PutError>>,
    /// Its standard error.
    pub(crate) log: String,
    /// The number of its calls of the bucket.
    pub(crate) calls: usize,
}

impl Sink {
    /// A sink on a platform whose one bucket, `default`, is empty.
    pub(crate) fn on(platform: Platform) -> Self {
        Self::with_bucket(platform, "default")
    }

    pub(crate) fn with_bucket(platform: Platform, bucket: &str) -> Self {
        Self {
            platform,
            memory: Arc::new(Mutex::new(Memory::new(platform, bucket))),
            variables: Vec::new(),
        }
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("no call panicked")
    }

    /// The result of a put without a fault.
    pub(crate) fn put(&self, key: &str, event: &str) -> Result<(), PutError> {
        let put = scheduling::finish(self.begin(key, event, None));
        put.answer.expect("nothing lets it crash")
    }

    /// Puts with a fault of the store.
    pub(crate) fn put_with(&self, fault: Fault, key: &str, event: &str) -> Put {
        scheduling::finish(self.begin(key, event, Some(fault)))
    }

    /// Begins a put with a new instance, as platforms do.
    pub(crate) fn begin(
        &self,
        key: &str,
        event: &str,
        fault: Option<Fault>,
    ) -> impl Future<Output = Put> + use<> {
        let caller = Caller::new(Arc::clone(&self.memory), fault);
        let log = MemoryOutputPipe::new(LOG_BYTES);
        let wasi = WasiCtx::builder()
            .envs(&self.variables)
            .stderr(log.clone())
            .build();
        let sink = match self.platform {
            Platform::SpinSqlite | Platform::SpinRedis => &SPIN,
            Platform::WasmCloud => &WASMCLOUD,
        };
        let (key, event) = (key.to_owned(), event.to_owned());
        async move {
            let mut store = Store::new(sink.engine(), State::new(wasi, caller));
            store.set_fuel(FUEL).expect("counts fuel");
            let answer = call(sink, &mut store, &key, &event).await;
            Put {
                answer,
                log: String::from_utf8(log.contents().to_vec()).expect("is text"),
                calls: store.data().caller.calls(),
            }
        }
    }
}

async fn call(
    sink: &SinkPre<State>,
    store: &mut Store<State>,
    key: &str,
    event: &str,
) -> Option<Result<(), PutError>> {
    let instance = sink.instantiate_async(&mut *store).await;
    let instance = instance.expect("is instantiated");
    let put = instance.alldata_peer_put_sink();
    match put.call_put(store, key, event).await {
        Ok(answer) => Some(answer.map_err(PutError::from)),
        Err(error) if error.root_cause().is::<Crash>() => None,
        Err(error) => panic!("the sink trapped: {error:?}"),
    }
}

/// The state of an instance.
struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    caller: Caller,
}

impl State {
    fn new(wasi: WasiCtx, caller: Caller) -> Self {
        Self {
            table: ResourceTable::new(),
            wasi,
            caller,
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl From<put_sink::PutError> for PutError {
    fn from(error: put_sink::PutError) -> Self {
        match error {
            put_sink::PutError::Conflict => Self::Conflict,
            put_sink::PutError::Rejected(reason) => Self::Rejected(reason),
            put_sink::PutError::Unavailable(retry_after_seconds) => Self::Unavailable {
                retry_after_seconds,
            },
            put_sink::PutError::Unknown => Self::Unknown,
            put_sink::PutError::Failed(reason) => Self::Failed(reason),
        }
    }
}
