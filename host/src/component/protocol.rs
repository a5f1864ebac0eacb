//! The short way to a component: its `put-handler`, which decodes bodies and makes answers.
//!
//! For a peer that has its sink from the host, as the built-in one. Never reads a body, never puts
//! and never writes an answer.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, ComponentType, InstancePre, Lift, Linker,
    Lower, Type, TypedFunc,
};
use wasmtime::{Engine, Result, Store};

use crate::component::cpu_time::{CpuTime, EpochTicker};
use crate::component::pool::InstanceFactory;
use crate::component::put_sink::WitPutError;
use crate::component::store_limits::{self, LimitedState, MemoryLimiter, StoreLimits};
use crate::sink::PutError;

/// The interface that a component is called through.
const PUT_HANDLER: &str = "alldata:peer/put-handler@0.1.0";

/// The sink that such a component puts into where it is called through `wasi:http`.
const KNOWN_PUT_SINK: &str = "alldata:peer/put-sink@0.1.0";

/// What such a component imports beside `put-sink`, for others to call it through `wasi:http`. Its
/// `put-handler` calls none of it.
const NOT_CALLED: [&str; 2] = ["wasi:http/types@", "wasi:io/"];

/// A component with a `put-handler`, ready to be instantiated.
pub(crate) struct DirectPre {
    pre: InstancePre<State>,
    handler: Handler,
    limits: StoreLimits,
}

/// Where a component has the functions of `put-handler`.
struct Handler {
    decode: ComponentExportIndex,
    explain: ComponentExportIndex,
}

/// An instance of it, which is called once at a time.
pub(crate) struct Direct {
    store: Store<State>,
    cpu_time: Arc<CpuTime>,
    decode: TypedFunc<(Bytes,), (Decoded,)>,
    explain: TypedFunc<(WitPutError,), (PutResponse,)>,
}

/// What a body asks to store, or else what is answered to it.
type Decoded = std::result::Result<DecodedPut, PutResponse>;

/// The record `put` of the WIT.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct DecodedPut {
    pub(crate) key: String,
    pub(crate) event: String,
    pub(crate) stored: PutResponse,
}

/// The record `answer` of the WIT.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct PutResponse {
    pub(crate) status: u16,
    pub(crate) header: Option<(String, String)>,
    pub(crate) problem: String,
}

/// What the store of an instance holds.
struct State {
    memory: MemoryLimiter,
    cpu_time: Arc<CpuTime>,
}

impl DirectPre {
    /// Readies a component. `None` for one that has to be called through `wasi:http`.
    pub(crate) fn new(
        engine: &Engine,
        component: &Component,
        limits: StoreLimits,
    ) -> Result<Option<Self>> {
        let Some(handler) = Handler::find(component) else {
            return Ok(None);
        };
        if !is_one_program(component) || !imports_no_more(engine, component) {
            return Ok(None);
        }
        let mut linker = Linker::new(engine);
        linker.define_unknown_imports_as_traps(component)?;
        let pre = linker.instantiate_pre(component)?;
        Ok(Some(Self {
            pre,
            handler,
            limits,
        }))
    }
}

impl InstanceFactory for DirectPre {
    type Instance = Direct;

    async fn instantiate(&self, cpu_time: Arc<CpuTime>) -> Result<Direct> {
        self.make(cpu_time).await
    }

    fn is_reusable(instance: &Direct) -> bool {
        instance.store.data().memory.is_reusable()
    }
}

impl DirectPre {
    /// A new instance.
    async fn make(&self, cpu_time: Arc<CpuTime>) -> Result<Direct> {
        let state = State {
            memory: MemoryLimiter::new(self.limits),
            cpu_time: Arc::clone(&cpu_time),
        };
        let mut store = store_limits::store(self.pre.engine(), self.limits, state);
        let instantiating = self.pre.instantiate_async(&mut store);
        let instance = cpu_time.measure(instantiating).await?;
        let decode = instance.get_typed_func(&mut store, self.handler.decode)?;
        let explain = instance.get_typed_func(&mut store, self.handler.explain)?;
        store.data_mut().memory.set_initial();
        Ok(Direct {
            store,
            cpu_time,
            decode,
            explain,
        })
    }

    /// Makes an instance and drops it, to see whether there is room for one: address space, above all.
    pub(crate) async fn try_out(&self, ticker: &EpochTicker) -> Result<()> {
        self.make(Arc::new(CpuTime::new(ticker.clone())))
            .await
            .map(drop)
    }
}

impl Direct {
    /// Lets the guest read the body of a `POST`. An error is a trap: the instance is spoilt.
    pub(crate) async fn decode(&mut self, body: Bytes) -> Result<Decoded> {
        self.call(self.decode, body).await
    }

    /// Lets the guest say what is answered to a put that came to this. An error is a trap, as above.
    pub(crate) async fn explain(&mut self, error: PutError) -> Result<PutResponse> {
        self.call(self.explain, error.into()).await
    }

    async fn call<P, R>(&mut self, function: TypedFunc<(P,), (R,)>, parameter: P) -> Result<R>
    where
        (P,): ComponentNamedList + Lower + Send + Sync,
        (R,): ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let call = function.call_async(&mut self.store, (parameter,));
        match self.cpu_time.measure(call).await {
            Ok((result,)) => Ok(result),
            Err(trap) => Err(self.store.data().memory.add_memory_context(trap)),
        }
    }
}

impl Handler {
    /// The functions of a component, if it has both of these types.
    fn find(component: &Component) -> Option<Self> {
        let handler = component.get_export_index(None, PUT_HANDLER)?;
        let find = |name| {
            let (item, index) = component.get_export(Some(&handler), name)?;
            let ComponentItem::ComponentFunc(function) = item else {
                return None;
            };
            let parameters: Vec<Type> = function.params().map(|(_, it)| it).collect();
            let results: Vec<Type> = function.results().collect();
            let [parameter] = <[Type; 1]>::try_from(parameters).ok()?;
            let [result] = <[Type; 1]>::try_from(results).ok()?;
            Some((index, parameter, result))
        };
        let (decode, body, decoded) = find("decode")?;
        let (explain, error, answer) = find("explain")?;
        let is_known =
            is_bytes(&body) && is_decoded(&decoded) && is_error(&error) && is_answer(&answer);
        is_known.then_some(Self { decode, explain })
    }
}

fn is_bytes(body: &Type) -> bool {
    matches!(body, Type::List(list) if list.ty() == Type::U8)
}

fn is_decoded(decoded: &Type) -> bool {
    let Type::Result(decoded) = decoded else {
        return false;
    };
    let (Some(Type::Record(put)), Some(answer)) = (decoded.ok(), decoded.err()) else {
        return false;
    };
    let fields: Vec<(&str, Type)> = put.fields().map(|it| (it.name, it.ty)).collect();
    let [
        ("key", Type::String),
        ("event", Type::String),
        ("stored", stored),
    ] = &*fields
    else {
        return false;
    };
    is_answer(stored) && is_answer(&answer)
}

fn is_answer(answer: &Type) -> bool {
    let Type::Record(answer) = answer else {
        return false;
    };
    let fields: Vec<(&str, Type)> = answer.fields().map(|it| (it.name, it.ty)).collect();
    let [
        ("status", Type::U16),
        ("header", Type::Option(header)),
        ("problem", Type::String),
    ] = &*fields
    else {
        return false;
    };
    let Type::Tuple(header) = header.ty() else {
        return false;
    };
    header.types().eq([Type::String, Type::String])
}

fn is_error(error: &Type) -> bool {
    let Type::Variant(error) = error else {
        return false;
    };
    let cases = error.cases().map(|case| (case.name, case.ty));
    cases.eq([
        ("conflict", None),
        ("rejected", Some(Type::String)),
        ("unavailable", Some(Type::U32)),
        ("unknown", None),
        ("failed", Some(Type::String)),
    ])
}

/// Whether a component is not composed of several, each of which would have a memory of its own. One
/// of them could be a sink that the peer puts into, before the sink of the host.
fn is_one_program(component: &Component) -> bool {
    let resources = component.resources_required();
    resources.is_some_and(|resources| resources.num_memories <= 1)
}

/// Whether a component imports `put-sink` as it is here, and else only what is not called.
fn imports_no_more(engine: &Engine, component: &Component) -> bool {
    let component = component.component_type();
    let mut has_sink = false;
    let no_more = component
        .imports(engine)
        .all(|(name, import)| match import.ty {
            ComponentItem::ComponentInstance(sink) if name == KNOWN_PUT_SINK => {
                has_sink = true;
                let mut items = sink.exports(engine);
                items.all(|(item, _)| ["put", "put-error"].contains(&item))
            }
            _ => NOT_CALLED.iter().any(|known| name.starts_with(known)),
        });
    no_more && has_sink
}

impl LimitedState for State {
    fn memory(&mut self) -> &mut MemoryLimiter {
        &mut self.memory
    }

    fn cpu_time(&self) -> &CpuTime {
        &self.cpu_time
    }
}
