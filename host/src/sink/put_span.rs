//! The span of a put in the sink, at the level `debug`. Without the feature `otlp` there is none.

use crate::sink::PutError;
#[cfg(feature = "otlp")]
pub(crate) use exported::PutSpan;
#[cfg(not(feature = "otlp"))]
pub(crate) use none::PutSpan;

#[cfg(not(feature = "otlp"))]
mod none {
    use super::PutError;

    pub(crate) struct PutSpan;

    impl PutSpan {
        pub(crate) fn new() -> Self {
            Self
        }

        /// The call itself.
        #[expect(clippy::unused_self, reason = "with the feature, it is in the span")]
        pub(crate) fn run<F>(&self, put: F) -> F {
            put
        }

        /// Has no effect.
        pub(crate) fn end(self, _: Option<&PutError>) {}
    }
}

#[cfg(feature = "otlp")]
mod exported {
    use tracing::field::Empty;
    use tracing::instrument::{Instrument as _, Instrumented};

    use super::PutError;

    pub(crate) struct PutSpan(tracing::Span);

    impl PutSpan {
        pub(crate) fn new() -> Self {
            Self(tracing::debug_span!(
                "sink",
                otel.status_code = Empty,
                alldata.put.outcome = Empty,
                error.type = Empty,
            ))
        }

        /// The call of the sink in the span.
        pub(crate) fn run<F>(&self, put: F) -> Instrumented<F> {
            put.instrument(self.0.clone())
        }

        /// Ends the span with the error of the put, if it failed. A conflict and a refused event are no errors of the sink.
        pub(crate) fn end(self, error: Option<&PutError>) {
            let Self(span) = self;
            let (outcome, is_error) = match error {
                None => ("stored", false),
                Some(PutError::Conflict) => ("conflict", false),
                Some(PutError::Rejected(_)) => ("rejected", false),
                Some(PutError::Unavailable { .. }) => ("unavailable", true),
                Some(PutError::Unknown) => ("unknown", true),
                Some(PutError::Failed(_)) => ("failed", true),
            };
            span.record("alldata.put.outcome", outcome);
            if is_error {
                span.record("otel.status_code", "ERROR");
                span.record("error.type", outcome);
            }
        }
    }
}
