//! The host side of the WIT interface `put-sink`.
//!
//! Of the generated types only those of the interface `protocol` are used outside of this file.

use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::{HasSelf, Linker};

use crate::sink::dispatcher::{SequentialDispatcher, SinkDispatcher};
use crate::sink::refusal::Refusal;
use crate::sink::{PutContext, PutError};
use crate::util::request_id::RequestId;

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "peer",
        imports: { default: async | trappable },
    });
}

use bindings::alldata::peer::put_sink::{self, Host};

/// The name of the interface, without its version.
pub(crate) const PUT_SINK: &str = "alldata:peer/put-sink@";

/// The types of the interface `protocol`, which has the same errors.
pub(crate) use bindings::exports::alldata::peer::protocol;

/// The data of an instance's store for `put-sink`.
pub(crate) struct PutSinkCtx {
    dispatcher: SequentialDispatcher,
    current: CurrentPut,
}

/// The data of the puts of one request.
#[derive(Default)]
pub(crate) struct CurrentPut {
    /// `None` before the first request.
    pub(crate) request_id: Option<RequestId>,
    /// `None` unless the sink needs it.
    pub(crate) context: Option<Box<PutContext>>,
    /// Records a put that the sink refuses.
    pub(crate) refusal: RefusalSlot,
}

/// Holds the refusal of the last put that an instance made, if that put was refused.
#[derive(Clone, Default)]
pub(crate) struct RefusalSlot(Arc<Mutex<Option<Box<Refusal>>>>);

impl PutSinkCtx {
    pub(crate) fn new(dispatcher: &SinkDispatcher) -> Self {
        Self {
            dispatcher: dispatcher.sequential(),
            current: CurrentPut::default(),
        }
    }

    /// The puts from now on are those of this request.
    pub(crate) fn set_current(&mut self, current: CurrentPut) {
        self.current = current;
    }
}

impl RefusalSlot {
    pub(crate) fn take(&self) -> Option<Box<Refusal>> {
        self.replace(None)
    }

    /// The value is replaced as a whole, so a poisoned lock is still good.
    fn replace(&self, refusal: Option<Box<Refusal>>) -> Option<Box<Refusal>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *slot, refusal)
    }
}

impl Host for PutSinkCtx {
    async fn put(
        &mut self,
        key: String,
        event: String,
    ) -> wasmtime::Result<Result<(), put_sink::PutError>> {
        let Self {
            dispatcher,
            current,
        } = self;
        let context = current.context.clone();
        let id = || current.request_id;
        let start = dispatcher.stopwatch();
        let result = dispatcher.put(key, event, context, id, start).await;
        Ok(result.map(drop).map_err(|refused| {
            current.refusal.replace(Some(refused.refusal));
            refused.error.into()
        }))
    }
}

/// Adds `put-sink` to the linker of stores that hold a [`PutSinkCtx`].
pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> &mut PutSinkCtx,
) -> wasmtime::Result<()> {
    put_sink::add_to_linker::<_, HasSelf<_>>(linker, get)
}

impl From<PutError> for put_sink::PutError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Conflict => Self::Conflict,
            PutError::Rejected(reason) => Self::Rejected(reason),
            PutError::Unavailable {
                retry_after_seconds,
            } => Self::Unavailable(retry_after_seconds),
            PutError::Unknown => Self::Unknown,
            PutError::Failed(reason) => Self::Failed(reason),
        }
    }
}
