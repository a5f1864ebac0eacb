//! Calls the sink with a time-out, and turns a panic of the sink into an error, so that sinks need to do
//! neither.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_utils::atomic::AtomicCell;
use futures_util::FutureExt as _;
use tracing::field::display;

use crate::metrics::histogram::Stopwatch;
use crate::metrics::server_metrics::ServerMetrics;
use crate::metrics::sink_metrics::SinkMetrics;
use crate::sink::failure_streak::FailureStreak;
use crate::sink::put_span::PutSpan;
use crate::sink::reason::Reason;
use crate::sink::refusal::Refusal;
use crate::sink::{BoxSink, PutContext, PutError, PutSink as _};
use crate::util::log_limiter::LogLimiter;
use crate::util::request_id::RequestId;
use crate::util::reusable_timeout::ReusableTimeout;

/// The sink of a server, for all of its connections and instances.
#[derive(Clone)]
pub(crate) struct SinkDispatcher {
    sink: BoxSink,
    needs_context: bool,
    timeout: Duration,
    failures: Arc<LogLimiter>,
    streak: Arc<FailureStreak>,
    metrics: Arc<ServerMetrics>,
}

/// A put that the sink did not acknowledge.
pub(crate) struct RefusedPut {
    pub(crate) error: PutError,
    pub(crate) refusal: Box<Refusal>,
}

/// Dispatches puts one at a time. Its timer and its buffer are reused.
pub(crate) struct SequentialDispatcher {
    dispatcher: SinkDispatcher,
    timeout: ReusableTimeout,
    /// The key of the current put, for the log; the sink owns the other copy.
    key: String,
}

/// Dispatches the puts of a connection, one at a time, through a shared reference.
pub(crate) struct ConnectionDispatcher {
    dispatcher: SinkDispatcher,
    /// `None` during a put. A pointer, so that the cell needs no lock.
    idle: AtomicCell<Option<Box<SequentialDispatcher>>>,
}

impl SinkDispatcher {
    /// Whether the sink is likely to store puts now; if not, the reasons.
    pub(crate) fn health(&self) -> Result<(), String> {
        self.sink.health()?;
        self.streak.check()
    }

    /// Whether each put has to have its context.
    pub(crate) fn needs_context(&self) -> bool {
        self.needs_context
    }

    /// The numbers of the sink, if it has any.
    pub(crate) fn sink_metrics(&self) -> Option<&SinkMetrics> {
        self.sink.metrics()
    }

    pub(crate) fn new(sink: BoxSink, timeout: Duration, metrics: Arc<ServerMetrics>) -> Self {
        Self {
            needs_context: sink.needs_context(),
            sink,
            timeout,
            failures: Arc::default(),
            streak: Arc::default(),
            metrics,
        }
    }

    pub(crate) fn sequential(&self) -> SequentialDispatcher {
        SequentialDispatcher {
            dispatcher: self.clone(),
            timeout: ReusableTimeout::new(self.timeout),
            key: String::new(),
        }
    }
}

impl SequentialDispatcher {
    /// Starts to measure the time of a put, if anybody can read it.
    pub(crate) fn stopwatch(&self) -> Stopwatch {
        self.dispatcher.metrics.stopwatch()
    }

    /// Puts an event of the request with this id into the sink. `start` is the end of the work before it. Returns the end
    /// of the work of the sink.
    pub(crate) async fn put(
        &mut self,
        key: String,
        event: String,
        context: Option<Box<PutContext>>,
        request_id: impl FnOnce() -> Option<RequestId>,
        start: Stopwatch,
    ) -> Result<Stopwatch, RefusedPut> {
        self.key.clear();
        self.key.push_str(&key);
        let Self {
            dispatcher,
            timeout,
            ..
        } = self;
        let pending = dispatcher.metrics.recent_events.begin(&event);
        // The call is inside the future, so that a panic before the first await is caught too.
        let put = async {
            match context {
                None => dispatcher.sink.put(key, event).await,
                // Boxed, since its size would be part of every put's future.
                Some(context) => {
                    let put = dispatcher.sink.put_with_context(key, event, *context);
                    Box::pin(put).await
                }
            }
        };
        let span = PutSpan::new();
        let result = {
            let put = span.run(put);
            // Pinned here, so that `run` moves a pointer only.
            let put = pin!(AssertUnwindSafe(put).catch_unwind());
            timeout.run(put).await
        };
        let end = dispatcher.metrics.shard().observe_sink(start);
        let result = match result {
            Some(Ok(result)) => result,
            Some(Err(panic)) => Err(PutError::Failed(panic_message(&*panic))),
            None => {
                span.end(Some(&PutError::Unknown));
                dispatcher
                    .streak
                    .record_failure("the last puts exceeded the time-out of the sink");
                return Err(self.timed_out());
            }
        };
        span.end(result.as_ref().err());
        if let Err(error @ PutError::Failed(reason)) = &result
            && let Some(suppressed) = dispatcher.failures.check(reason)
        {
            let request_id = request_id().map(display);
            tracing::error!(request_id, %error, suppressed, "put failed");
        }
        dispatcher.streak.record(&result);
        if let (Ok(()), Some(pending)) = (&result, pending) {
            let recent_events = &dispatcher.metrics.recent_events;
            recent_events.record(&self.key, pending);
        }
        result.map(|()| end).map_err(|error| self.refused(error))
    }

    fn refused(&self, error: PutError) -> RefusedPut {
        let unavailable = || self.dispatcher.sink.unavailable_reason();
        RefusedPut {
            refusal: Box::new(Refusal::from_put_error(&error, &self.key, unavailable)),
            error,
        }
    }

    fn timed_out(&self) -> RefusedPut {
        let mut refused = self.refused(PutError::Unknown);
        refused.refusal.reason = Reason::Timeout;
        refused
    }
}

impl ConnectionDispatcher {
    pub(crate) fn new(dispatcher: SinkDispatcher) -> Self {
        Self {
            dispatcher,
            idle: AtomicCell::new(None),
        }
    }

    /// As [`SequentialDispatcher::put`].
    pub(crate) async fn put(
        &self,
        key: String,
        event: String,
        context: Option<Box<PutContext>>,
        request_id: impl FnOnce() -> RequestId,
        start: Stopwatch,
    ) -> Result<Stopwatch, RefusedPut> {
        let idle = self.idle.take();
        let mut sequential = idle.unwrap_or_else(|| Box::new(self.dispatcher.sequential()));
        let request_id = || Some(request_id());
        let result = sequential.put(key, event, context, request_id, start).await;
        self.idle.store(Some(sequential));
        result
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", message.unwrap_or("without a message"))
}
