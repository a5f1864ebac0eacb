//! The entry point `protocol` of a component: `decode`, and the response to a put that failed.
//!
//! For a component that gets its sink from the host, as the built-in one. Reads no body, calls no sink
//! and sends no response.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, Instance, InstancePre, Lift, Linker,
    Lower, TypedFunc,
};
use wasmtime::{Engine, Result, Store, Trap};

use crate::component::cpu_time::{CpuTime, EpochTicker};
use crate::component::pool::InstanceFactory;
use crate::component::put_sink::protocol::{Put, RequestError, Response};
use crate::component::store_limits::{self, LimitedState, MemoryLimiter, StoreLimits};
use crate::sink::PutError;

/// The interface that a component is called through.
const PROTOCOL: &str = "alldata:peer/protocol@0.1.0";

/// The sink that such a component calls where it is called through `wasi:http`.
const KNOWN_PUT_SINK: &str = "alldata:peer/put-sink@0.1.0";

/// The other imports of such a component, for callers through `wasi:http`. `protocol` calls none of
/// them.
const NOT_CALLED: [&str; 2] = ["wasi:http/types@", "wasi:io/"];

/// The largest body that is decoded by a blocking call, which typically takes some tens of microseconds.
const MAX_BLOCKING_BODY_BYTES: usize = 64 * 1024;

/// How short calls of a component are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallMode {
    /// On the stack of the thread, which the call blocks until it returns or its time is over. For a component that is
    /// known to take little time: a call on a fiber takes longer.
    Blocking,
    /// On a fiber, which yields to other tasks at each tick.
    Async,
}

/// A component that exports `protocol`, ready to be instantiated.
pub(crate) struct ProtocolPre {
    pre: InstancePre<State>,
    exports: ProtocolExports,
    limits: StoreLimits,
    mode: CallMode,
}

/// The places of the functions among the exports of a component.
struct ProtocolExports {
    decode: ComponentExportIndex,
    error_response: ComponentExportIndex,
}

/// An instance of it, which runs one call at a time.
pub(crate) struct ProtocolInstance {
    store: Store<State>,
    cpu_time: Arc<CpuTime>,
    functions: ProtocolFunctions,
    mode: CallMode,
}

#[derive(Clone, Copy)]
struct ProtocolFunctions {
    decode: TypedFunc<(Bytes,), (Decoded,)>,
    error_response: TypedFunc<(RequestError,), (Response,)>,
}

/// The put in a body, or else the response to that body.
type Decoded = std::result::Result<Put, Response>;

/// The data of an instance's store.
struct State {
    memory: MemoryLimiter,
    cpu_time: Arc<CpuTime>,
    /// How the current call is made.
    current_mode: CallMode,
}

impl ProtocolPre {
    /// Prepares a component, and instantiates it once: wasmtime then checks the types of the functions, and a
    /// lack of address space is an error now, and not for each client. `None` for a component that has
    /// to be called through `wasi:http`.
    pub(crate) async fn new(
        engine: &Engine,
        component: &Component,
        limits: StoreLimits,
        ticker: &EpochTicker,
        mode: CallMode,
    ) -> Result<Option<Self>> {
        let Some(exports) = ProtocolExports::find(component) else {
            return Ok(None);
        };
        if !is_one_program(component) || !imports_no_more(engine, component) {
            return Ok(None);
        }
        let mut linker = Linker::new(engine);
        linker.define_unknown_imports_as_traps(component)?;
        let pre = Self {
            pre: linker.instantiate_pre(component)?,
            exports,
            limits,
            mode,
        };
        let cpu_time = Arc::new(CpuTime::new(ticker.clone()));
        match pre.instantiate_component(cpu_time).await {
            Ok((mut store, instance)) => {
                let functions = pre.exports.functions(&mut store, &instance);
                Ok(functions.is_ok().then_some(pre))
            }
            // A trap is the component's own doing, and may not happen again.
            Err(trap) if trap.is::<Trap>() => Ok(Some(pre)),
            Err(error) => Err(error.context("it cannot be instantiated")),
        }
    }

    async fn instantiate_component(
        &self,
        cpu_time: Arc<CpuTime>,
    ) -> Result<(Store<State>, Instance)> {
        let state = State {
            memory: MemoryLimiter::new(self.limits),
            cpu_time: Arc::clone(&cpu_time),
            current_mode: CallMode::Async,
        };
        let mut store = store_limits::store(self.pre.engine(), self.limits, state);
        let instantiating = self.pre.instantiate_async(&mut store);
        let instance = cpu_time.measure(instantiating).await?;
        Ok((store, instance))
    }
}

impl InstanceFactory for ProtocolPre {
    type Instance = ProtocolInstance;

    async fn instantiate(&self, cpu_time: Arc<CpuTime>) -> Result<ProtocolInstance> {
        let instantiated = self.instantiate_component(Arc::clone(&cpu_time)).await;
        let (mut store, instance) = instantiated?;
        let functions = self.exports.functions(&mut store, &instance)?;
        store.data_mut().memory.set_initial();
        Ok(ProtocolInstance {
            store,
            cpu_time,
            functions,
            mode: self.mode,
        })
    }

    fn is_reusable(instance: &ProtocolInstance) -> bool {
        instance.store.data().memory.is_reusable()
    }
}

impl ProtocolExports {
    /// The functions of a component, of whatever types, if it has both.
    fn find(component: &Component) -> Option<Self> {
        let protocol = component.get_export_index(None, PROTOCOL)?;
        Some(Self {
            decode: component.get_export_index(Some(&protocol), "decode")?,
            error_response: component.get_export_index(Some(&protocol), "error-response")?,
        })
    }

    /// The functions of an instance. An error means that they have other types.
    fn functions(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
    ) -> Result<ProtocolFunctions> {
        Ok(ProtocolFunctions {
            decode: instance.get_typed_func(&mut *store, self.decode)?,
            error_response: instance.get_typed_func(&mut *store, self.error_response)?,
        })
    }
}

impl ProtocolInstance {
    /// Decodes the body of a `POST`. An error is a trap: the instance must not be used again.
    pub(crate) async fn decode(&mut self, body: Bytes) -> Result<Decoded> {
        let is_small = body.len() <= MAX_BLOCKING_BODY_BYTES;
        self.call(self.functions.decode, body, is_small).await
    }

    /// The response to a put that failed. An error is a trap, as above.
    pub(crate) async fn error_response(&mut self, error: PutError) -> Result<Response> {
        let error = RequestError::Put(error.into());
        self.call(self.functions.error_response, error, true).await
    }

    /// Calls a function, and blocks meanwhile if that `is_short` and the component allows it.
    async fn call<P, R>(
        &mut self,
        function: TypedFunc<(P,), (R,)>,
        parameter: P,
        is_short: bool,
    ) -> Result<R>
    where
        (P,): ComponentNamedList + Lower + Send + Sync,
        (R,): ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let parameter = (parameter,);
        let result = if is_short && self.mode == CallMode::Blocking {
            self.store.data_mut().current_mode = CallMode::Blocking;
            let result = self
                .cpu_time
                .measure_blocking(|| function.call(&mut self.store, parameter));
            self.store.data_mut().current_mode = CallMode::Async;
            result
        } else {
            // Boxed, since its size would be part of every put's future.
            let call = Box::pin(function.call_async(&mut self.store, parameter));
            self.cpu_time.measure(call).await
        };
        match result {
            Ok((result,)) => Ok(result),
            Err(trap) => Err(self.store.data().memory.add_memory_context(trap)),
        }
    }
}

/// Whether a component is not composed of several, each of which has a memory of its own. One of them
/// could be a sink, which these functions would not call.
fn is_one_program(component: &Component) -> bool {
    let resources = component.resources_required();
    resources.is_some_and(|resources| resources.num_memories <= 1)
}

/// Whether a component imports this `put-sink`, and otherwise only interfaces that are not called.
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

    fn may_yield(&self) -> bool {
        self.current_mode == CallMode::Async
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use alldata_peer_test_support::protocol_guest::{CREATED, guest_that};
    use bytes::Bytes;
    use wasmtime::component::Component;

    use super::{CallMode, MAX_BLOCKING_BODY_BYTES, ProtocolPre};
    use crate::component::cpu_time::{CpuTime, EpochTicker};
    use crate::component::engine::engine;
    use crate::component::pool::{InstanceFactory as _, PoolConfig};
    use crate::component::store_limits::{MAX_MEMORY_BYTES, StoreLimits};

    #[tokio::test]
    async fn looping_guest_is_stopped_in_both_modes() {
        let config = PoolConfig {
            max_concurrent_requests: 1,
            max_reuse_count: 1,
        };
        let engine = engine(config).expect("can be made");
        let guest = guest_that("(loop (br 0))", CREATED, "");
        // Room for the larger body.
        let guest = guest.replace(
            r#"(memory (export "memory") 1)"#,
            r#"(memory (export "memory") 3)"#,
        );
        let binary = wat::parse_str(guest).expect("is valid");
        let component = Component::from_binary(&engine, &binary).expect("can be compiled");
        let limits = StoreLimits {
            memory_bytes: MAX_MEMORY_BYTES,
            cpu_time: Duration::from_millis(300),
        };
        let ticker = EpochTicker::start(&engine).expect("starts");
        let pre = ProtocolPre::new(&engine, &component, limits, &ticker, CallMode::Blocking);
        let pre = pre.await.expect("can be linked");
        let pre = pre.expect("has the entry point");
        for bytes in [MAX_BLOCKING_BODY_BYTES, MAX_BLOCKING_BODY_BYTES + 1] {
            let cpu_time = Arc::new(CpuTime::new(ticker.clone()));
            let instance = pre.instantiate(cpu_time).await;
            let mut instance = instance.expect("can be instantiated");
            let decoded = instance.decode(Bytes::from(vec![b' '; bytes])).await;
            let trap = format!("{:#}", decoded.expect_err("is stopped"));
            assert!(trap.contains("it used more than 300ms"), "{trap}");
        }
    }
}
