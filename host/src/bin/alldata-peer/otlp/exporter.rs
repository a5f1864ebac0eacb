//! An exporter that logs failures with a limit on their rate, in the place of a line for each batch.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use super::client::LastError;

/// The shortest time between two lines about failures.
const LOG_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct LoggingExporter {
    exporter: opentelemetry_otlp::SpanExporter,
    last_error: LastError,
    failures: Mutex<Failures>,
}

/// The failures since the last line.
#[derive(Debug, Default)]
struct Failures {
    spans: usize,
    logged: Option<Instant>,
}

impl LoggingExporter {
    pub(super) fn new(exporter: opentelemetry_otlp::SpanExporter, last_error: LastError) -> Self {
        Self {
            exporter,
            last_error,
            failures: Mutex::default(),
        }
    }
}

impl SpanExporter for LoggingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        if let Err(error) = self.exporter.export(batch).await {
            let mut last_error = self
                .last_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let reason = last_error.take();
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(spans) = failures.record(spans, Instant::now()) {
                tracing::warn!(spans, %error, reason, "traces are lost: the export failed");
            }
        }
        // The library would log a line for each batch.
        Ok(())
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl Failures {
    /// Records a failure. Returns the number of spans that were lost since the last line, if it is time for another one.
    fn record(&mut self, spans: usize, now: Instant) -> Option<usize> {
        self.spans += spans;
        if self.logged.is_some_and(|logged| now < logged + LOG_PAUSE) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.spans))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Failures, LOG_PAUSE};

    #[test]
    fn failures_are_counted_until_the_next_line() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        assert_eq!(failures.record(3, start), Some(3));
        assert_eq!(failures.record(4, start), None);
        assert_eq!(failures.record(5, start + LOG_PAUSE / 2), None);
        assert_eq!(failures.record(1, start + LOG_PAUSE), Some(10));
    }
}
