//! The trace context of requests (W3C Trace Context): that of a client, and that of a request to another server.
//!
//! A layer of `tracing-opentelemetry` has to be installed. Without one, no context is read and none is sent.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::util::request_id::{RequestId, TRACEPARENT};

const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Makes the client's span the parent of `span`, if the request has one valid `traceparent`. Returns the trace of
/// `span`; `None` if no layer records it.
pub(crate) fn begin(span: &Span, headers: &HeaderMap) -> Option<RequestId> {
    // The propagator accepts fields that are invalid for a request id.
    if RequestId::from_traceparent(headers).is_some() {
        let client = HeaderExtractor(headers);
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &client);
        // Without a layer there is nothing to set.
        let _ = span.set_parent(parent);
    }
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    context
        .is_valid()
        .then(|| RequestId::from_trace_id(context.trace_id().to_bytes()))
}

/// Adds the context of the current span to the header section of a request to another server, unless it has one.
pub(crate) fn inject(headers: &mut HeaderMap) {
    let span = Span::current();
    if span.is_disabled() || headers.contains_key(TRACEPARENT) {
        return;
    }
    let context = span.context();
    if !context.span().span_context().is_valid() {
        return;
    }
    TraceContextPropagator::new().inject_context(&context, &mut HeaderInjector(headers));
    // The propagator also sets an empty one.
    if headers.get(TRACESTATE).is_some_and(HeaderValue::is_empty) {
        headers.remove(TRACESTATE);
    }
}
