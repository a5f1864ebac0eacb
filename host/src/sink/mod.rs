//! The trait of sinks, which receive the events of a peer server, and their errors.
//!
//! Independent of HTTP, WIT and wasmtime. The sinks that come with the crate are in
//! [`sinks`](crate::sinks).

pub(crate) mod comparison;
pub(crate) mod dispatcher;
pub(crate) mod failure_streak;
pub(crate) mod group_commit;
mod put_context;
mod put_span;
pub(crate) mod reason;
pub(crate) mod refusal;
pub(crate) mod reopen;
pub(crate) mod unavailable_reasons;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};

pub use alldata_peer_protocol::same_event::same_event;
pub use put_context::PutContext;

use crate::metrics::sink_metrics::SinkMetrics;
use crate::sink::reason::Reason;
use crate::sink::reopen::Reopen;
use crate::sink::unavailable_reasons::UnavailableReasons;

/// After how many seconds a client may retry a put that was refused because of load, or of a lock of another
/// process. Both change within a second; a longer time would leave the server idle after a burst.
pub(crate) const BUSY_RETRY_SECONDS: u32 = 1;

/// After how many seconds a client may retry a put that was refused because the store is full, or may have lost
/// events. It remains so until an operator acts, but another peer may accept the event.
pub(crate) const OPERATOR_RETRY_SECONDS: u32 = 60;

/// Receives the events of a peer server.
///
/// The store of a sink is write-once: the first event under a key is never changed or removed.
///
/// Puts run concurrently. A put is completed even if its client has closed the connection. A put that
/// exceeds the sink time-out of the server is dropped, so it must be safe to drop at any await point. A
/// panic in a put is [`PutError::Failed`], and the server continues.
pub trait PutSink: Send + Sync + 'static {
    /// Stores `event` under `key`.
    ///
    /// `key` has 1 to 1024 bytes. `event` is the JSON text of the event, byte for byte as it was sent,
    /// without surrounding white space.
    ///
    /// `Ok` means that the event is stored as durably as this sink ever stores, by this put or by an
    /// earlier one of the same key and event.
    ///
    /// # Errors
    ///
    /// The reason why the event was not acknowledged; see [`PutError`].
    fn put(&self, key: String, event: String) -> impl Future<Output = Result<(), PutError>> + Send;

    /// Whether the server passes the context of each put. It asks once, when it starts. Other sinks cost nothing for it.
    fn needs_context(&self) -> bool {
        false
    }

    /// Stores `event` under `key` as [`put`](Self::put) does. The server calls it in place of `put` if the sink
    /// [needs the context](Self::needs_context).
    ///
    /// ```
    /// use alldata_peer_server_http::sink::PutContext;
    /// use alldata_peer_server_http::{PutError, PutSink};
    ///
    /// struct MySink;
    ///
    /// impl PutSink for MySink {
    ///     async fn put(&self, key: String, event: String) -> Result<(), PutError> {
    ///         println!("{key}: {event}");
    ///         Ok(())
    ///     }
    ///
    ///     fn needs_context(&self) -> bool {
    ///         true
    ///     }
    ///
    ///     async fn put_with_context(
    ///         &self,
    ///         key: String,
    ///         event: String,
    ///         context: PutContext,
    ///     ) -> Result<(), PutError> {
    ///         if context.headers.get("x-tenant").is_none() {
    ///             return Err(PutError::Rejected("X-Tenant is missing.".to_owned()));
    ///         }
    ///         self.put(key, event).await
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    fn put_with_context(
        &self,
        key: String,
        event: String,
        context: PutContext,
    ) -> impl Future<Output = Result<(), PutError>> + Send {
        drop(context);
        self.put(key, event)
    }

    /// Writes the data that the sink has buffered. A server calls it once when it closes, after the last
    /// put, or after the drain time-out while slower puts are still running. A sink that acknowledges only
    /// stored events need not implement it.
    ///
    /// # Errors
    ///
    /// [`PutError::Failed`] with the reason, which the server logs.
    fn flush(&self) -> impl Future<Output = Result<(), PutError>> + Send {
        async { Ok(()) }
    }

    /// Whether the sink is likely to store puts now, for the readiness of the server. A server whose last puts
    /// failed is not ready either, so a sink that knows no more than that need not implement it. Must not block.
    ///
    /// # Errors
    ///
    /// The reason why it is not, for operators.
    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    /// Erases the type of the sink, so that it can be chosen at run time.
    fn boxed(self) -> BoxSink
    where
        Self: Sized,
    {
        BoxSink {
            sink: Arc::new(self),
            internals: None,
        }
    }
}

/// Why a put was not acknowledged. The cases are those of `put-error` in `wit/put-sink.wit`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// The key already has a different event, which is kept. The response is 409.
    #[error("the key already holds a different event")]
    Conflict,
    /// The event is refused permanently. The response is 422 with the reason, so the reason is a sentence
    /// for the client.
    #[error("the event is refused: {0}")]
    Rejected(String),
    /// The event is not stored, but a later put may succeed. The response is 503.
    #[error("the event cannot be stored now; try again in {retry_after_seconds} s")]
    Unavailable {
        /// The number of seconds after which to retry.
        retry_after_seconds: u32,
    },
    /// The event may or may not be stored. The response is 504.
    #[error("the event may or may not be stored")]
    Unknown,
    /// The sink failed, and the event may or may not be stored. The response is 500; the reason is logged,
    /// and never sent to the client.
    #[error("the sink failed: {0}")]
    Failed(String),
}

/// A sink that calls a function: see [`from_fn`].
pub struct FnSink<F>(F);

/// Makes a sink from an async function of key and event.
///
/// ```
/// use alldata_peer_server_http::{PutError, PutSink, sink};
///
/// let sink = sink::from_fn(|key: String, event: String| async move {
///     println!("{key}: {event}");
///     Ok::<(), PutError>(())
/// });
/// # fn is_a_sink(_: impl PutSink) {}
/// # is_a_sink(sink);
/// ```
pub fn from_fn<F, Fut>(put: F) -> FnSink<F>
where
    F: Fn(String, String) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), PutError>> + Send,
{
    FnSink(put)
}

impl<F, Fut> PutSink for FnSink<F>
where
    F: Fn(String, String) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), PutError>> + Send,
{
    fn put(&self, key: String, event: String) -> impl Future<Output = Result<(), PutError>> + Send {
        (self.0)(key, event)
    }
}

/// A sink of any type; see [`PutSink::boxed`]. Clones share the sink.
#[derive(Clone)]
pub struct BoxSink {
    sink: Arc<dyn ErasedSink>,
    /// `None` for a sink that does not come with this crate.
    internals: Option<Arc<SinkInternals>>,
}

/// The parts of a sink that comes with this crate.
#[derive(Default)]
pub(crate) struct SinkInternals {
    /// Records why puts were unavailable.
    pub(crate) reasons: Arc<UnavailableReasons>,
    pub(crate) metrics: Option<SinkMetrics>,
    /// Reopens the file of the sink, if it can. Does not keep the sink open.
    pub(crate) reopen: Option<Weak<dyn Reopen>>,
}

impl BoxSink {
    /// A sink that comes with this crate.
    pub(crate) fn with_internals(sink: impl PutSink, internals: SinkInternals) -> Self {
        Self {
            sink: Arc::new(sink),
            internals: Some(Arc::new(internals)),
        }
    }

    /// The part that reopens the file of the sink, if it can.
    pub(crate) fn reopen(&self) -> Option<Weak<dyn Reopen>> {
        self.internals.as_ref()?.reopen.clone()
    }

    /// The numbers of the sink, if it has any.
    pub(crate) fn metrics(&self) -> Option<&SinkMetrics> {
        self.internals.as_ref()?.metrics.as_ref()
    }

    /// Tells, once the sink and all clones of it are dropped, whether it has lost events.
    #[must_use]
    pub fn loss_report(&self) -> LossReport {
        let internals = self.internals.as_ref();
        LossReport(internals.map(|internals| Arc::clone(&internals.reasons)))
    }

    /// The reason for a put that has just returned as unavailable.
    pub(crate) fn unavailable_reason(&self) -> Reason {
        let internals = self.internals.as_ref();
        let reason = internals.and_then(|internals| internals.reasons.take_one());
        reason.unwrap_or(Reason::SinkUnavailable)
    }
}

/// Whether a sink that was dropped has lost acknowledged events: see [`BoxSink::loss_report`].
#[derive(Debug, Clone)]
pub struct LossReport(Option<Arc<UnavailableReasons>>);

impl LossReport {
    /// Whether acknowledged events may be lost: the file that had them was removed or damaged while the sink
    /// had it open, and no copy could be made. The log says which file. Always `false` of a sink that does not
    /// come with this crate.
    #[must_use]
    pub fn has_lost_events(&self) -> bool {
        self.0.as_ref().is_some_and(|reasons| reasons.has_lost())
    }
}

impl PutSink for BoxSink {
    fn put(&self, key: String, event: String) -> impl Future<Output = Result<(), PutError>> + Send {
        self.sink.put(key, event)
    }

    fn needs_context(&self) -> bool {
        self.sink.needs_context()
    }

    fn put_with_context(
        &self,
        key: String,
        event: String,
        context: PutContext,
    ) -> impl Future<Output = Result<(), PutError>> + Send {
        self.sink.put_with_context(key, event, context)
    }

    fn flush(&self) -> impl Future<Output = Result<(), PutError>> + Send {
        self.sink.flush()
    }

    fn health(&self) -> Result<(), String> {
        self.sink.health()
    }

    fn boxed(self) -> BoxSink {
        self
    }
}

impl fmt::Debug for BoxSink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BoxSink").finish_non_exhaustive()
    }
}

type BoxPut<'a> = Pin<Box<dyn Future<Output = Result<(), PutError>> + Send + 'a>>;

/// [`PutSink`] as a trait that can be an object.
trait ErasedSink: Send + Sync {
    fn put(&self, key: String, event: String) -> BoxPut<'_>;
    fn needs_context(&self) -> bool;
    fn put_with_context(&self, key: String, event: String, context: PutContext) -> BoxPut<'_>;
    fn flush(&self) -> BoxPut<'_>;
    fn health(&self) -> Result<(), String>;
}

impl<S: PutSink> ErasedSink for S {
    fn put(&self, key: String, event: String) -> BoxPut<'_> {
        Box::pin(PutSink::put(self, key, event))
    }

    fn needs_context(&self) -> bool {
        PutSink::needs_context(self)
    }

    fn put_with_context(&self, key: String, event: String, context: PutContext) -> BoxPut<'_> {
        Box::pin(PutSink::put_with_context(self, key, event, context))
    }

    fn flush(&self) -> BoxPut<'_> {
        Box::pin(PutSink::flush(self))
    }

    fn health(&self) -> Result<(), String> {
        PutSink::health(self)
    }
}
