//! The entry point `protocol` of a component: `decode`, and the responses to a put that was stored or failed.
//!
//! For a component that gets its sink from the host, as the built-in one. Reads no body, calls no sink
//! and sends no response.

use std::sync::{Arc, OnceLock};

use bytes::{Buf as _, Bytes};
use wasmtime::component::{
    Component, ComponentNamedList, Instance, InstancePre, Lift, Linker, Lower, TypedFunc,
};
use wasmtime::{Engine, Result, Store, Trap, format_err};

use crate::component::cpu_time::{CpuTime, EpochTicker};
use crate::component::pool::InstanceFactory;
use crate::component::protocol_exports::{ProtocolExports, ProtocolFunctions};
use crate::component::put_sink::protocol::{ByteRange, RequestError, Response};
use crate::component::store_limits::{self, LimitedState, MemoryLimiter, StoreLimits};
use crate::sink::PutError;

/// The largest body that is decoded by a blocking call, which typically takes some tens of microseconds.
const MAX_BLOCKING_BODY_BYTES: usize = 64 * 1024;

/// The size from which an event keeps the memory of its body. Smaller ones are copied: the memory of their body is often that of
/// the connection's read buffer.
const MIN_MOVED_EVENT_BYTES: usize = 64 * 1024;

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
    stored_response: Arc<OnceLock<Response>>,
}

/// An instance of it, which runs one call at a time.
pub(crate) struct ProtocolInstance {
    caller: Caller,
    functions: ProtocolFunctions,
    /// The result of `stored-response`, once an instance of the component was called for it.
    stored_response: Arc<OnceLock<Response>>,
}

/// Calls the functions of one instance.
struct Caller {
    store: Store<State>,
    cpu_time: Arc<CpuTime>,
    mode: CallMode,
}

/// The put in a body, or else the response to that body.
type Decoded = std::result::Result<DecodedPut, Response>;

/// A put to store. Once it is, [`ProtocolPre::stored_response`] is sent.
#[derive(Debug)]
pub(crate) struct DecodedPut {
    pub(crate) key: String,
    pub(crate) event: String,
}

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
        let Some(exports) = ProtocolExports::find(engine, component) else {
            return Ok(None);
        };
        let mut linker = Linker::new(engine);
        linker.define_unknown_imports_as_traps(component)?;
        let pre = Self {
            pre: linker.instantiate_pre(component)?,
            exports,
            limits,
            mode,
            stored_response: Arc::default(),
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

    /// The response to every put that was stored, once an instance has decoded a put.
    pub(crate) fn stored_response(&self) -> Option<&Response> {
        self.stored_response.get()
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
            caller: Caller {
                store,
                cpu_time,
                mode: self.mode,
            },
            functions,
            stored_response: Arc::clone(&self.stored_response),
        })
    }

    fn is_reusable(instance: &ProtocolInstance) -> bool {
        instance.caller.store.data().memory.is_reusable()
    }
}

impl ProtocolInstance {
    /// Decodes the body of a `POST`. An error is a trap, or an event that is not in the body: the instance must not be
    /// used again.
    pub(crate) async fn decode(&mut self, body: Bytes) -> Result<Decoded> {
        let is_small = body.len() <= MAX_BLOCKING_BODY_BYTES;
        let call = self.caller.call(self.functions.decode, (&*body,), is_small);
        let put = match call.await? {
            Ok(put) => put,
            Err(response) => return Ok(Err(response)),
        };
        if self.stored_response.get().is_none() {
            // Boxed, since it is rare and its size would be part of every put's future.
            Box::pin(self.call_stored_response()).await?;
        }
        Ok(Ok(DecodedPut {
            key: put.key,
            event: event_in(body, put.event)?,
        }))
    }

    /// Has the guest make the response to every put that was stored. An error is a trap, as above.
    async fn call_stored_response(&mut self) -> Result<()> {
        let call = self.caller.call(self.functions.stored_response, (), true);
        let response = call.await?;
        // Another instance may have made it meanwhile.
        let _ = self.stored_response.set(response);
        Ok(())
    }

    /// The response to a put that failed. An error is a trap: the instance must not be used again.
    pub(crate) async fn error_response(&mut self, error: PutError) -> Result<Response> {
        let error = (RequestError::Put(error.into()),);
        let call = self.caller.call(self.functions.error_response, error, true);
        call.await
    }
}

impl Caller {
    /// Calls a function, and blocks meanwhile if that `is_short` and the component allows it.
    async fn call<P, R>(
        &mut self,
        function: TypedFunc<P, (R,)>,
        parameters: P,
        is_short: bool,
    ) -> Result<R>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        (R,): ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let result = if is_short && self.mode == CallMode::Blocking {
            self.store.data_mut().current_mode = CallMode::Blocking;
            let result = self
                .cpu_time
                .measure_blocking(|| function.call(&mut self.store, parameters));
            self.store.data_mut().current_mode = CallMode::Async;
            result
        } else {
            // Boxed, since its size would be part of every put's future.
            let call = Box::pin(function.call_async(&mut self.store, parameters));
            self.cpu_time.measure(call).await
        };
        match result {
            Ok((result,)) => Ok(result),
            Err(trap) => Err(self.store.data().memory.add_memory_context(trap)),
        }
    }
}

/// The event in a body. A large one keeps the memory of its body.
#[expect(
    unsafe_code,
    reason = "the standard library would check for UTF-8 again, which takes longer"
)]
fn event_in(mut body: Bytes, range: ByteRange) -> Result<String> {
    let [offset, length] = [range.offset, range.length].map(|bytes| bytes as usize);
    let event = body.get(offset..).and_then(|from| from.get(..length));
    let event = event.ok_or_else(|| format_err!("the event is not in the body"))?;
    let event = simdutf8::basic::from_utf8(event);
    let event = event.map_err(|_| format_err!("the event is not UTF-8"))?;
    if length < MIN_MOVED_EVENT_BYTES {
        return Ok(event.to_owned());
    }
    body.advance(offset);
    body.truncate(length);
    // SAFETY: these are the bytes that were checked.
    let mut event = unsafe { String::from_utf8_unchecked(Vec::from(body)) };
    // Queues count the bytes of the event, not those of the body.
    if event.capacity() - length > length / 4 {
        event.shrink_to_fit();
    }
    Ok(event)
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

    use bytes::Bytes;
    use wasmtime::component::Component;

    use super::{
        ByteRange, CallMode, MAX_BLOCKING_BODY_BYTES, MIN_MOVED_EVENT_BYTES, ProtocolPre, event_in,
    };
    use crate::component::cpu_time::{CpuTime, EpochTicker};
    use crate::component::engine::{InstanceSlots, engine};
    use crate::component::pool::{InstanceFactory as _, PoolConfig};
    use crate::component::store_limits::{MAX_MEMORY_BYTES, StoreLimits};

    #[test]
    fn event_is_taken_out_of_body_of_any_size() {
        for (before, event, after) in [(3, 5, 2), (3, 100_000, 2), (200_000, 100_000, 3)] {
            let event = "é".repeat(event);
            let text = format!("{}{event}{}", " ".repeat(before), "}".repeat(after));
            let body = || Bytes::from(text.clone());
            let shared = body();
            let range = |offset: usize| ByteRange {
                offset: u32::try_from(offset).expect("fits"),
                length: u32::try_from(event.len()).expect("fits"),
            };
            for body in [body(), shared.clone()] {
                let taken = event_in(body, range(before)).expect("is in the body");
                assert!(taken == event);
                assert!(taken.capacity() <= event.len() + event.len() / 4);
            }
            for offset in [before + 1, before + after + 1] {
                event_in(body(), range(offset)).expect_err("is not UTF-8, or not in the body");
            }
        }
    }

    #[test]
    fn large_event_keeps_memory_of_its_body() {
        let body = Bytes::from(vec![b'1'; MIN_MOVED_EVENT_BYTES + 10]);
        let memory = body.as_ptr();
        let range = ByteRange {
            offset: 10,
            length: u32::try_from(MIN_MOVED_EVENT_BYTES).expect("fits"),
        };
        let event = event_in(body, range).expect("is in the body");
        assert_eq!(event.as_ptr(), memory);
    }

    #[tokio::test]
    async fn looping_guest_is_stopped_in_both_modes() {
        let config = PoolConfig {
            max_concurrent_requests: 1,
            max_reuse_count: 1,
        };
        let engine = engine(config, InstanceSlots::MAX).expect("can be made");
        // A text of its own: packages have no other crates for tests.
        let binary = wat::parse_str(include_str!("looping_guest.wat")).expect("is valid");
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
