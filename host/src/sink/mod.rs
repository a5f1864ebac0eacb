//! What a sink is: the one thing that a peer server hands events to.
//!
//! Knows no HTTP, no WIT and no wasmtime. The sinks that come with the crate are in
//! [`sinks`](crate::sinks).

pub(crate) mod comparison;
pub(crate) mod dispatcher;
pub(crate) mod group_commit;
pub(crate) mod reason;
pub(crate) mod refusal;
pub(crate) mod unavailable_reasons;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::sink::reason::Reason;
use crate::sink::unavailable_reasons::UnavailableReasons;

/// Takes the events of a peer server.
///
/// A store behind a sink is write-once: the first event under a key stays there for ever.
///
/// Puts run concurrently. A put whose client has gone away runs to its end all the same; one
/// that outlasts the server's sink time-out is dropped, so a put must be safe to drop at any
/// await point. A panic in a put is [`PutError::Failed`], and the server lives on.
pub trait PutSink: Send + Sync + 'static {
    /// Stores `event` under `key`.
    ///
    /// `key` has 1 to 1024 bytes. `event` is the JSON text of the event, byte for byte as it was
    /// sent, without the white space around it.
    ///
    /// `Ok` means: the event is stored as durably as this sink ever stores, now or by an earlier
    /// put of the same key and event.
    ///
    /// # Errors
    ///
    /// Whatever kept the event from being acknowledged; see [`PutError`].
    fn put(&self, key: String, event: String) -> impl Future<Output = Result<(), PutError>> + Send;

    /// Writes out whatever the sink still holds. A closing server calls it once, after the last
    /// put, or after the drain time-out while puts that outlast it still run. A sink that
    /// acknowledges only what it has stored has nothing to do here.
    ///
    /// # Errors
    ///
    /// [`PutError::Failed`] with the reason, which the server logs.
    fn flush(&self) -> impl Future<Output = Result<(), PutError>> + Send {
        async { Ok(()) }
    }

    /// Hides the type of the sink, so that one can be chosen at run time.
    fn boxed(self) -> BoxSink
    where
        Self: Sized,
    {
        BoxSink {
            sink: Arc::new(self),
            reasons: None,
        }
    }
}

/// Why a put was not acknowledged. The cases are those of `put-error` in `wit/put-sink.wit`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// The key holds a different event, and keeps it. Answered with 409.
    #[error("the key already holds a different event")]
    Conflict,
    /// This event is refused now and for ever. Answered with 422 and the reason, so the reason is
    /// a sentence for the client.
    #[error("the event is refused: {0}")]
    Rejected(String),
    /// The event is not stored, but may be later. Answered with 503.
    #[error("the event can't be stored now; try again in {retry_after_seconds} s")]
    Unavailable {
        /// After how many seconds to try again.
        retry_after_seconds: u32,
    },
    /// The event may or may not be stored. Answered with 504.
    #[error("the event may or may not be stored")]
    Unknown,
    /// The sink is broken. Answered with 500; the reason goes to the log, never to the client.
    #[error("the sink failed: {0}")]
    Failed(String),
}

/// A sink made of a function: see [`from_fn`].
pub struct FnSink<F>(F);

/// Makes a sink of an async function of key and event.
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

/// Any sink behind one type; see [`PutSink::boxed`]. Clones share the sink.
#[derive(Clone)]
pub struct BoxSink {
    sink: Arc<dyn ErasedSink>,
    /// Where it notes why it was unavailable, if it does.
    reasons: Option<Arc<UnavailableReasons>>,
}

impl BoxSink {
    /// A sink that notes in `reasons` why each put was unavailable.
    pub(crate) fn with_reasons(sink: impl PutSink, reasons: Arc<UnavailableReasons>) -> Self {
        Self {
            sink: Arc::new(sink),
            reasons: Some(reasons),
        }
    }

    /// Tells, once the sink and all clones of it are dropped, whether it has lost events.
    #[must_use]
    pub fn loss_report(&self) -> LossReport {
        LossReport(self.reasons.clone())
    }

    /// Why a put was unavailable that has just come back.
    pub(crate) fn unavailable_reason(&self) -> Reason {
        let reasons = self.reasons.as_ref();
        let reason = reasons.and_then(|reasons| reasons.take());
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

    fn flush(&self) -> impl Future<Output = Result<(), PutError>> + Send {
        self.sink.flush()
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

/// [`PutSink`] in the shape that a trait object needs.
trait ErasedSink: Send + Sync {
    fn put(&self, key: String, event: String) -> BoxPut<'_>;
    fn flush(&self) -> BoxPut<'_>;
}

impl<S: PutSink> ErasedSink for S {
    fn put(&self, key: String, event: String) -> BoxPut<'_> {
        Box::pin(PutSink::put(self, key, event))
    }

    fn flush(&self) -> BoxPut<'_> {
        Box::pin(PutSink::flush(self))
    }
}
