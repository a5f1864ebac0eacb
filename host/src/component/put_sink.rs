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

use crate::server::refusal_log::Refusals;
use crate::sink::refusal::{Reason, Refusal};
use crate::sink::{BoxSink, PutError, PutSink};
use crate::util::log_limiter::Seldom;
use crate::util::reusable_timeout::TimeOut;

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
    refusals: Arc<Refusals>,
}

/// A put that was not acknowledged.
pub(crate) struct RefusedPut {
    pub(crate) error: PutError,
    pub(crate) refusal: Box<Refusal>,
}

/// The sink for puts that come one after the other: those of a guest instance, or of a connection.
pub(crate) struct PutSinkContext {
    puts: Puts,
    time_out: TimeOut,
    /// That of the put, for the log where it is refused: the sink takes the other. Kept from put to put, so
    /// that no put allocates it.
    key: String,
    /// Of the last put that a component made itself, if it was refused and anybody wants to see it.
    refusal: Option<RefusalSlot>,
}

/// Where a component's put that was refused is seen by whoever sends the component's answer.
pub(crate) type RefusalSlot = Arc<Mutex<Option<Box<Refusal>>>>;

/// The sink of a connection, for puts that nothing of it may be borrowed for.
pub(crate) struct ConnectionSink {
    puts: Puts,
    /// `None` while there is a put.
    idle: Mutex<Option<PutSinkContext>>,
}

impl Puts {
    pub(crate) fn new(sink: BoxSink, timeout: Duration, refusals: Arc<Refusals>) -> Self {
        Self {
            sink,
            timeout,
            failing: Arc::default(),
            refusals,
        }
    }

    pub(crate) fn context(&self) -> PutSinkContext {
        PutSinkContext {
            puts: self.clone(),
            time_out: TimeOut::new(self.timeout),
            key: String::new(),
            refusal: None,
        }
    }
}

impl PutSinkContext {
    /// Puts, and says what became of it: in time, and also where the sink panics.
    pub(crate) async fn put(&mut self, key: String, event: String) -> Result<(), RefusedPut> {
        self.key.clear();
        self.key.push_str(&key);
        let Self { puts, time_out, .. } = self;
        // The call is inside the future, so that a panic before the first await is caught too.
        let put = AssertUnwindSafe(async { puts.sink.put(key, event).await }).catch_unwind();
        let result = match time_out.hold(put).await {
            Some(Ok(result)) => result,
            Some(Err(panic)) => Err(PutError::Failed(panic_text(&*panic))),
            None => return Err(self.timed_out()),
        };
        if let Err(error @ PutError::Failed(reason)) = &result
            && let Some(left_out) = puts.failing.say(reason)
        {
            tracing::error!(%error, left_out, "put failed");
        }
        result.map_err(|error| self.refused(error))
    }

    fn refused(&self, error: PutError) -> RefusedPut {
        let refusal = Refusal::of_put(&error, &self.key, || self.puts.sink.unavailable_reason());
        RefusedPut {
            error,
            refusal: Box::new(refusal),
        }
    }

    fn timed_out(&self) -> RefusedPut {
        let mut refused = self.refused(PutError::Unknown);
        refused.refusal.reason = Reason::Timeout;
        refused
    }

    /// Where the last refused put of a component is to be seen.
    pub(crate) fn refusal_slot(&mut self) -> RefusalSlot {
        Arc::clone(self.refusal.get_or_insert_default())
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
    pub(crate) async fn put(&self, key: String, event: String) -> Result<(), RefusedPut> {
        let idle = self.idle().take();
        let mut context = idle.unwrap_or_else(|| self.puts.context());
        let result = context.put(key, event).await;
        *self.idle() = Some(context);
        result
    }

    pub(crate) fn refusals(&self) -> &Arc<Refusals> {
        &self.puts.refusals
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
        let refused = match PutSinkContext::put(self, key, event).await {
            Ok(()) => return Ok(Ok(())),
            Err(refused) => refused,
        };
        if let Some(slot) = &self.refusal {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            *slot = Some(refused.refusal);
        }
        Ok(Err(refused.error.into()))
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
