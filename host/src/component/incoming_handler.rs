//! The long way to a component, which may import all of WASI: one that is composed with a sink, or
//! that brings a language of its own.
//!
//! It sees what it was given, see `world`; without anything a component that was built with a
//! standard library starts, but sees an empty world. Never looks at an answer.

use std::sync::Arc;

use hyper::Request;
use tokio::sync::oneshot;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Engine, Result, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::component::cpu_time::ComputingTime;
use crate::component::outbound_http::OutgoingRequests;
use crate::component::pool::Pre;
use crate::component::put_sink::{self, PutSinkContext, Puts, RefusalSlot};
use crate::component::store_limits::{self, GuestLimits, GuestMemory, Watched};
use crate::component::wasi::World;
use crate::server::body::LimitedBody;

/// What a component sets as its answer: an error where it reports one instead of a response.
pub(crate) type SetAnswer = std::result::Result<hyper::Response<HyperOutgoingBody>, ErrorCode>;

/// Any component, ready to be instantiated.
pub(crate) struct WholePre {
    pre: ProxyPre<State>,
    limits: GuestLimits,
    world: World,
    outgoing: OutgoingRequests,
}

/// An instance of it, which takes one request at a time.
pub(crate) struct Whole {
    store: Store<State>,
    computing: Arc<ComputingTime>,
    proxy: Proxy,
}

/// What the store of an instance holds.
pub(crate) struct State {
    table: ResourceTable,
    memory: GuestMemory,
    computing: Arc<ComputingTime>,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outgoing: OutgoingRequests,
    put_sink: PutSinkContext,
}

impl WholePre {
    pub(crate) fn new(
        engine: &Engine,
        component: &Component,
        limits: GuestLimits,
        world: World,
    ) -> Result<Self> {
        Ok(Self {
            pre: ProxyPre::new(linker(engine)?.instantiate_pre(component)?)?,
            limits,
            world,
            outgoing: OutgoingRequests::new(),
        })
    }
}

impl Pre for WholePre {
    type Instance = Whole;

    async fn instantiate(&self, puts: &Puts, computing: Arc<ComputingTime>) -> Result<Whole> {
        let state = State {
            table: ResourceTable::new(),
            memory: GuestMemory::new(self.limits),
            computing: Arc::clone(&computing),
            wasi: self.world.open()?,
            http: WasiHttpCtx::new(),
            outgoing: self.outgoing.clone(),
            put_sink: puts.context(),
        };
        let mut store = store_limits::store(self.pre.engine(), self.limits, state);
        let instantiating = self.pre.instantiate_async(&mut store);
        let proxy = computing.measure(instantiating).await?;
        store.data_mut().memory.settle();
        Ok(Whole {
            store,
            computing,
            proxy,
        })
    }

    fn is_clean(instance: &Whole) -> bool {
        let state = instance.store.data();
        state.table.is_empty() && state.memory.is_small()
    }
}

impl Whole {
    /// Where the last put that it made and that was refused is to be seen.
    pub(crate) fn refusal_slot(&mut self) -> RefusalSlot {
        self.store.data_mut().put_sink.refusal_slot()
    }

    /// Lets the guest handle `request`. The answer comes through `answer`, maybe before the guest
    /// is done; a guest that sets none drops it. An error is a trap: the instance is spoilt.
    pub(crate) async fn handle(
        &mut self,
        request: Request<LimitedBody>,
        answer: oneshot::Sender<SetAnswer>,
    ) -> Result<()> {
        let mut http = self.store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request)?;
        let out = http.new_response_outparam(answer)?;
        let handler = self.proxy.wasi_http_incoming_handler();
        let call = handler.call_handle(&mut self.store, request, out);
        let handled = self.computing.measure(call).await;
        handled.map_err(|trap| self.store.data().memory.explain(trap))
    }
}

/// Everything that a guest may import.
fn linker(engine: &Engine) -> Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    put_sink::add_to_linker(&mut linker, |state: &mut State| &mut state.put_sink)?;
    Ok(linker)
}

impl Watched for State {
    fn memory(&mut self) -> &mut GuestMemory {
        &mut self.memory
    }

    fn computing(&self) -> &ComputingTime {
        &self.computing
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

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.outgoing,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}
