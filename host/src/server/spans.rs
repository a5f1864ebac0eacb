//! The spans of a request and of the call of its guest. They are at the level `debug`, so that they cost nothing where
//! no subscriber wants them.
//!
//! Without the feature `otlp` there is only that of the request, and its only field is the id. The fields have the names of
//! OpenTelemetry's conventions. None has a key, an event, a query or a credential.

use hyper::http::request::Parts;
use tracing::Span;

use crate::server::context::ConnectionContext;
#[cfg(feature = "otlp")]
pub(crate) use exported::{guest, record_response, request};
#[cfg(not(feature = "otlp"))]
pub(crate) use plain::{guest, record_response, request};

#[cfg(not(feature = "otlp"))]
mod plain {
    use super::{ConnectionContext, Parts, Span};
    use crate::server::response::Response;

    /// The span of the current request.
    pub(crate) fn request(context: &ConnectionContext, _: &Parts) -> Span {
        tracing::debug_span!("request", id = %context.request_id())
    }

    /// Has no effect.
    pub(crate) fn record_response(_: &Span, _: &Response) {}

    /// The call itself.
    pub(crate) fn guest<F>(call: F) -> F {
        call
    }
}

#[cfg(feature = "otlp")]
mod exported {
    use futures_util::TryFutureExt as _;
    use hyper::header::{HOST, HeaderValue};
    use hyper::http::uri::Authority;
    use hyper::{Method, Version};
    use tracing::Instrument as _;
    use tracing::field::{Empty, display};

    use super::{ConnectionContext, Parts, Span};
    use crate::server::response::Response;
    use crate::util::trace_context;

    /// The longest text of an attribute in bytes, since a client chooses it and the queue has many. The rest is left out.
    const MAX_TEXT_BYTES: usize = 256;

    /// The value for methods that the conventions do not name, and the name of their spans.
    const OTHER_METHOD: &str = "_OTHER";
    const OTHER_NAME: &str = "HTTP";

    const ERROR: &str = "ERROR";

    /// The span of the current request. Its trace becomes the id of the request.
    pub(crate) fn request(context: &ConnectionContext, head: &Parts) -> Span {
        let span = tracing::debug_span!(
            "request",
            id = Empty,
            otel.name = known_method(&head.method).unwrap_or(OTHER_NAME),
            otel.kind = "server",
            otel.status_code = Empty,
            http.request.method = known_method(&head.method).unwrap_or(OTHER_METHOD),
            http.request.method_original = Empty,
            http.response.status_code = Empty,
            url.path = cut_off(head.uri.path()),
            url.scheme = if context.is_tls { "https" } else { "http" },
            client.address = context.client_ip().map(display),
            server.address = Empty,
            server.port = Empty,
            network.protocol.version = version(head.version),
            error.type = Empty,
        );
        if !span.is_disabled() {
            if let Some(trace_id) = trace_context::begin(&span, &head.headers) {
                context.set_trace_id(trace_id);
            }
            span.record("id", display(context.request_id()));
            record_head(&span, head);
        }
        span
    }

    /// Records what only some requests have.
    fn record_head(span: &Span, head: &Parts) {
        let method = &head.method;
        if known_method(method).is_none() {
            span.record("http.request.method_original", cut_off(method.as_str()));
        }
        let host = head.headers.get(HOST).map(HeaderValue::as_bytes);
        let host = host.and_then(|host| Authority::try_from(host).ok());
        if let Some(authority) = head.uri.authority().or(host.as_ref()) {
            span.record("server.address", cut_off(authority.host()));
            if let Some(port) = authority.port_u16() {
                span.record("server.port", port);
            }
        }
    }

    /// Records the status code of the response.
    pub(crate) fn record_response(span: &Span, response: &Response) {
        let status = response.status();
        span.record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            span.record("otel.status_code", ERROR);
            span.record("error.type", status.as_str());
        }
    }

    /// A call of the guest in a span of its own.
    pub(crate) fn guest<T, E>(
        call: impl Future<Output = Result<T, E>>,
    ) -> impl Future<Output = Result<T, E>> {
        let span = tracing::debug_span!("guest", otel.status_code = Empty);
        let fail = |_: &E| {
            Span::current().record("otel.status_code", ERROR);
        };
        call.inspect_err(fail).instrument(span)
    }

    /// The name of a method that the conventions name.
    fn known_method(method: &Method) -> Option<&str> {
        const KNOWN: [Method; 9] = [
            Method::CONNECT,
            Method::DELETE,
            Method::GET,
            Method::HEAD,
            Method::OPTIONS,
            Method::PATCH,
            Method::POST,
            Method::PUT,
            Method::TRACE,
        ];
        KNOWN.contains(method).then_some(method.as_str())
    }

    fn version(version: Version) -> &'static str {
        match version {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2",
            Version::HTTP_3 => "3",
            _ => "1.1",
        }
    }

    fn cut_off(text: &str) -> &str {
        &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
    }
}
