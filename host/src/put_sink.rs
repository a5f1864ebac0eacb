//! The host side of the interface `put-sink`: what the guest's `put` calls, or what is called for a
//! guest that only decodes.
//!
//! Of the generated types that of errors alone leaves this file. Adds to the sink what no sink
//! should have to see to itself: the time-out, and that a panic is an answer.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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

/// The interface's type, for a guest that is told of an error.
pub(crate) type WitPutError = put_sink::PutError;

/// Where a server's puts go, for all of its guests.
#[derive(Clone)]
pub(crate) struct Puts {
    sink: BoxSink,
    timeout: Duration,
    /// What all of them say of it.
    failing: Arc<Seldom>,
}

/// The sink for puts that come one after the other: those of a guest instance, or of a connection.
pub(crate) struct PutSinkContext {
    puts: Puts,
    time_out: TimeOut,
}

/// The sink of a connection, for puts that nothing of it may be borrowed for.
pub(crate) struct ConnectionSink {
    puts: Puts,
    /// `None` while there is a put.
    idle: Mutex<Option<PutSinkContext>>,
}

impl Puts {
    pub(crate) fn new(sink: BoxSink, timeout: Duration) -> Self {
        Self {
            sink,
            timeout,
            failing: Arc::default(),
        }
    }

    pub(crate) fn context(&self) -> PutSinkContext {
        PutSinkContext {
            puts: self.clone(),
            time_out: TimeOut::new(self.timeout),
        }
    }
}

impl PutSinkContext {
    /// Puts, and says what became of it: in time, and also where the sink panics.
    pub(crate) async fn put(&mut self, key: String, event: String) -> Result<(), PutError> {
        let Self { puts, time_out } = self;
        // The call is inside the future, so that a panic before the first await is caught too.
        let put = AssertUnwindSafe(async { puts.sink.put(key, event).await }).catch_unwind();
        let result = match time_out.hold(put).await {
            Some(Ok(result)) => result,
            Some(Err(panic)) => Err(PutError::Failed(panic_text(&*panic))),
            None => {
                let timeout = puts.timeout;
                if let Some(left_out) = puts.failing.say("") {
                    tracing::warn!(?timeout, left_out, "the sink did not answer in time");
                }
                Err(PutError::Unknown)
            }
        };
        if let Err(error @ PutError::Failed(reason)) = &result
            && let Some(left_out) = puts.failing.say(reason)
        {
            tracing::error!(%error, left_out, "put failed");
        }
        result
    }
}

impl ConnectionSink {
    pub(crate) fn new(puts: Puts) -> Self {
        Self {
            puts,
            idle: Mutex::new(None),
        }
    }

    /// As for [`PutSinkContext::put`].
    pub(crate) async fn put(&self, key: String, event: String) -> Result<(), PutError> {
        let idle = self.idle().take();
        let mut context = idle.unwrap_or_else(|| self.puts.context());
        let result = context.put(key, event).await;
        *self.idle() = Some(context);
        result
    }

    /// What is behind it is set as a whole, so a poisoned lock is still good.
    fn idle(&self) -> MutexGuard<'_, Option<PutSinkContext>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for PutSinkContext {
    async fn put(
        &mut self,
        key: String,
        event: String,
    ) -> wasmtime::Result<Result<(), WitPutError>> {
        let result = PutSinkContext::put(self, key, event).await;
        Ok(result.map_err(WitPutError::from))
    }
}

/// Offers `put-sink` to a guest whose store holds a [`PutSinkContext`].
pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    context: fn(&mut T) -> &mut PutSinkContext,
) -> wasmtime::Result<()> {
    put_sink::add_to_linker::<_, HasSelf<_>>(linker, context)
}

impl From<PutError> for WitPutError {
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
