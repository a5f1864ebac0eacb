//! The entry point `wasi:http/incoming-handler`, for components that import more than `put-sink`: those
//! that are composed with a sink, or that contain the runtime of another language.
//!
//! The WASI context of a component is configured in `wasi`.

use std::sync::Arc;

use bytes::Bytes;
use hyper::Request;
use hyper::body::Body;
use tokio::sync::oneshot;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Engine, Result, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::component::cpu_time::CpuTime;
use crate::component::outbound_http::OutboundHttp;
use crate::component::pool::InstanceFactory;
use crate::component::put_sink::{self, CurrentPut, PutSinkCtx};
use crate::component::store_limits::{self, LimitedState, MemoryLimiter, StoreLimits};
use crate::component::wasi::WasiConfig;
use crate::sink::dispatcher::SinkDispatcher;

/// The argument of `response-outparam.set`.
pub(crate) type OutparamResult = std::result::Result<hyper::Response<HyperOutgoingBody>, ErrorCode>;

/// A component, linked for `wasi:http`.
pub(crate) struct IncomingHandlerPre {
    pre: ProxyPre<State>,
    limits: StoreLimits,
    wasi: WasiConfig,
    outbound_http: OutboundHttp,
}

/// Makes instances of a component that put into one sink.
pub(crate) struct IncomingHandlerFactory {
    component: IncomingHandlerPre,
    dispatcher: SinkDispatcher,
}

/// An instance of a component, which handles one request at a time.
pub(crate) struct IncomingHandlerInstance {
    store: Store<State>,
    cpu_time: Arc<CpuTime>,
    proxy: Proxy,
}

/// The data of an instance's store.
pub(crate) struct State {
    table: ResourceTable,
    memory: MemoryLimiter,
    cpu_time: Arc<CpuTime>,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound_http: OutboundHttp,
    put_sink: PutSinkCtx,
}

impl IncomingHandlerPre {
    pub(crate) fn new(
        engine: &Engine,
        component: &Component,
        limits: StoreLimits,
        wasi: WasiConfig,
    ) -> Result<Self> {
        Ok(Self {
            pre: ProxyPre::new(linker(engine)?.instantiate_pre(component)?)?,
            limits,
            wasi,
            outbound_http: OutboundHttp::new(),
        })
    }

    pub(crate) fn with_sink(self, dispatcher: SinkDispatcher) -> IncomingHandlerFactory {
        IncomingHandlerFactory {
            component: self,
            dispatcher,
        }
    }
}

impl InstanceFactory for IncomingHandlerFactory {
    type Instance = IncomingHandlerInstance;

    async fn instantiate(&self, cpu_time: Arc<CpuTime>) -> Result<IncomingHandlerInstance> {
        let Self {
            component,
            dispatcher,
        } = self;
        let state = State {
            table: ResourceTable::new(),
            memory: MemoryLimiter::new(component.limits),
            cpu_time: Arc::clone(&cpu_time),
            wasi: component.wasi.build_ctx()?,
            http: WasiHttpCtx::new(),
            outbound_http: component.outbound_http.clone(),
            put_sink: PutSinkCtx::new(dispatcher),
        };
        let mut store = store_limits::store(component.pre.engine(), component.limits, state);
        let instantiating = component.pre.instantiate_async(&mut store);
        let proxy = cpu_time.measure(instantiating).await?;
        store.data_mut().memory.set_initial();
        Ok(IncomingHandlerInstance {
            store,
            cpu_time,
            proxy,
        })
    }

    fn is_reusable(instance: &IncomingHandlerInstance) -> bool {
        let state = instance.store.data();
        state.table.is_empty() && state.memory.is_reusable()
    }
}

impl IncomingHandlerInstance {
    /// Lets the guest handle `request`, whose scheme is `https` if `is_tls`. The response arrives through
    /// `outparam`, possibly before the guest returns; a guest that sets none drops it. `put` is for the puts of
    /// the request. An error is a trap, after which the instance cannot be used.
    pub(crate) async fn handle<B>(
        &mut self,
        request: Request<B>,
        is_tls: bool,
        outparam: oneshot::Sender<OutparamResult>,
        put: CurrentPut,
    ) -> Result<()>
    where
        B: Body<Data = Bytes, Error = wasmtime_wasi_http::Error> + Send + 'static,
    {
        let state = self.store.data_mut();
        state.put_sink.set_current(put);
        let mut http = state.http();
        let scheme = match is_tls {
            true => Scheme::Https,
            false => Scheme::Http,
        };
        let request = http.new_incoming_request(scheme, request)?;
        let outparam = http.new_response_outparam(outparam)?;
        let handler = self.proxy.wasi_http_incoming_handler();
        let call = handler.call_handle(&mut self.store, request, outparam);
        let handled = self.cpu_time.measure(call).await;
        handled.map_err(|trap| self.store.data().memory.add_memory_context(trap))
    }
}

/// A linker with all interfaces that a component may import.
fn linker(engine: &Engine) -> Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    put_sink::add_to_linker(&mut linker, |state: &mut State| &mut state.put_sink)?;
    Ok(linker)
}

impl LimitedState for State {
    fn memory(&mut self) -> &mut MemoryLimiter {
        &mut self.memory
    }

    fn cpu_time(&self) -> &CpuTime {
        &self.cpu_time
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
            hooks: &mut self.outbound_http,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}
