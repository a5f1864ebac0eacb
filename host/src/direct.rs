//! The short way to a component: its `put-handler`, which takes a body and gives an answer.
//!
//! For a peer that has its sink from the host, as the built-in one. Never reads a body and never
//! writes an answer.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentType, InstancePre, Lift, Linker, Type, TypedFunc,
};
use wasmtime::{Engine, Result, Store};

use crate::computing::ComputingTime;
use crate::guest_limits::{self, GuestLimits, GuestMemory, Watched};
use crate::instances::Pre;
use crate::put_sink::{self, PutSinkContext};

/// The interface that a component is called through.
const PUT_HANDLER: &str = "alldata:peer/put-handler@0.1.0";

/// The sink that such a component puts into.
const KNOWN_PUT_SINK: &str = "alldata:peer/put-sink@0.1.0";

/// What such a component imports beside `put-sink`, for others to call it through `wasi:http`. Its
/// `put-handler` calls none of it.
const NOT_CALLED: [&str; 2] = ["wasi:http/types@", "wasi:io/"];

/// A component with a `put-handler`, ready to be instantiated.
pub(crate) struct DirectPre {
    pre: InstancePre<State>,
    handle_put: ComponentExportIndex,
    limits: GuestLimits,
}

/// An instance of it, which takes one put at a time.
pub(crate) struct Direct {
    store: Store<State>,
    computing: Arc<ComputingTime>,
    handle_put: TypedFunc<(Bytes,), (PutAnswer,)>,
}

/// The record `answer` of the WIT.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct PutAnswer {
    pub(crate) status: u16,
    pub(crate) header: Option<(String, String)>,
    pub(crate) problem: String,
}

/// What the store of an instance holds.
struct State {
    memory: GuestMemory,
    computing: Arc<ComputingTime>,
    put_sink: PutSinkContext,
}

impl DirectPre {
    /// Readies a component. `None` for one that has to be called through `wasi:http`.
    pub(crate) fn new(
        engine: &Engine,
        component: &Component,
        limits: GuestLimits,
    ) -> Result<Option<Self>> {
        let Some(handle_put) = find_handle_put(component) else {
            return Ok(None);
        };
        if !imports_no_more(engine, component) {
            return Ok(None);
        }
        let mut linker = Linker::new(engine);
        put_sink::add_to_linker(&mut linker, |state: &mut State| &mut state.put_sink)?;
        linker.define_unknown_imports_as_traps(component)?;
        let pre = linker.instantiate_pre(component)?;
        Ok(Some(Self {
            pre,
            handle_put,
            limits,
        }))
    }
}

impl Pre for DirectPre {
    type Instance = Direct;

    async fn instantiate(
        &self,
        put_sink: PutSinkContext,
        computing: Arc<ComputingTime>,
    ) -> Result<Direct> {
        let state = State {
            memory: GuestMemory::new(self.limits),
            computing: Arc::clone(&computing),
            put_sink,
        };
        let mut store = guest_limits::store(self.pre.engine(), self.limits, state);
        let instantiating = self.pre.instantiate_async(&mut store);
        let instance = computing.measure(instantiating).await?;
        let handle_put = instance.get_typed_func(&mut store, self.handle_put)?;
        store.data_mut().memory.settle();
        Ok(Direct {
            store,
            computing,
            handle_put,
        })
    }

    fn is_clean(instance: &Direct) -> bool {
        instance.store.data().memory.is_small()
    }
}

/// The function `handle-put` of a component, if it has one of this type.
fn find_handle_put(component: &Component) -> Option<ComponentExportIndex> {
    let handler = component.get_export_index(None, PUT_HANDLER)?;
    let (item, index) = component.get_export(Some(&handler), "handle-put")?;
    let ComponentItem::ComponentFunc(function) = item else {
        return None;
    };
    let parameters: Vec<Type> = function.params().map(|(_, parameter)| parameter).collect();
    let results: Vec<Type> = function.results().collect();
    let ([Type::List(body)], [Type::Record(answer)]) = (&*parameters, &*results) else {
        return None;
    };
    let fields: Vec<(&str, Type)> = answer.fields().map(|it| (it.name, it.ty)).collect();
    let [
        ("status", status),
        ("header", Type::Option(header)),
        ("problem", problem),
    ] = &*fields
    else {
        return None;
    };
    let Type::Tuple(header) = header.ty() else {
        return None;
    };
    let is_known = body.ty() == Type::U8
        && (status, problem) == (&Type::U16, &Type::String)
        && header.types().eq([Type::String, Type::String]);
    is_known.then_some(index)
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

impl Direct {
    /// Lets the guest handle a `POST` with this body. An error is a trap: the instance is spoilt.
    pub(crate) async fn handle_put(&mut self, body: Bytes) -> Result<PutAnswer> {
        let call = self.handle_put.call_async(&mut self.store, (body,));
        match self.computing.measure(call).await {
            Ok((answer,)) => Ok(answer),
            Err(trap) => Err(self.store.data().memory.explain(trap)),
        }
    }
}

impl Watched for State {
    fn memory(&mut self) -> &mut GuestMemory {
        &mut self.memory
    }

    fn computing(&self) -> &ComputingTime {
        &self.computing
    }
}
