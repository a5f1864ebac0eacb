//! The host side of the interface `put-sink`: what the guest's `put` calls.
//!
//! The generated types stay in this file. Adds to the sink what no sink should have to see to
//! itself: the time-out, and that a panic is an answer.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use wasmtime::component::{HasSelf, Linker};

use crate::seldom::Seldom;
use crate::sink::{BoxSink, PutError, PutSink};
use crate::time_out::TimeOut;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "peer",
        imports: { default: async | trappable },
    });
}

use bindings::alldata::peer::put_sink::{self, Host};

/// The name of the interface, without its version.
pub(crate) const PUT_SINK: &str = "alldata:peer/put-sink@";

/// The sink of one guest instance.
pub(crate) struct PutSinkContext {
    pub(crate) sink: BoxSink,
    pub(crate) time_out: TimeOut,
    /// What all instances say of it.
    pub(crate) failing: Arc<Seldom>,
}

impl Host for PutSinkContext {
    async fn put(
        &mut self,
        key: String,
        event: String,
    ) -> wasmtime::Result<Result<(), put_sink::PutError>> {
        // The call is inside the future, so that a panic before the first await is caught too.
        let put = AssertUnwindSafe(async { self.sink.put(key, event).await }).catch_unwind();
        let result = match self.time_out.hold(put).await {
            Some(Ok(result)) => result,
            Some(Err(panic)) => Err(PutError::Failed(panic_text(&*panic))),
            None => {
                let timeout = self.time_out.after();
                if let Some(left_out) = self.failing.say("") {
                    tracing::warn!(?timeout, left_out, "the sink did not answer in time");
                }
                Err(PutError::Unknown)
            }
        };
        if let Err(error @ PutError::Failed(reason)) = &result
            && let Some(left_out) = self.failing.say(reason)
        {
            tracing::error!(%error, left_out, "put failed");
        }
        Ok(result.map_err(put_sink::PutError::from))
    }
}

/// Offers `put-sink` to a guest whose store holds a [`PutSinkContext`].
pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    context: fn(&mut T) -> &mut PutSinkContext,
) -> wasmtime::Result<()> {
    put_sink::add_to_linker::<_, HasSelf<_>>(linker, context)
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

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("without a message"))
}
