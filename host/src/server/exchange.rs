//! A request from its header section to its response: whether the connection ends after it, and its part of the metrics
//! and of the access log.

use std::sync::Arc;
use std::time::Instant;

use hyper::Version;
use hyper::body::Body as _;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::http::request::Parts;

use crate::metrics::histogram::Stopwatch;
use crate::server::access_entry::AccessEntry;
use crate::server::body::{BodyReservation, LimitExceeded, LimitedBody};
use crate::server::context::ConnectionContext;
use crate::server::present_fields::PresentFields;
use crate::server::request_body::RequestBody;
use crate::server::response::Response;

/// A request that has no response yet.
pub(crate) struct Exchange<'a> {
    context: &'a ConnectionContext,
    pub(crate) fields: PresentFields,
    pub(crate) reservation: Arc<BodyReservation>,
    entry: Option<Box<AccessEntry<'a>>>,
    pub(crate) start: Stopwatch,
    is_invalid: bool,
    is_chunked: bool,
    has_connection: bool,
}

impl<'a> Exchange<'a> {
    /// Begins with a request, which may be invalid by its header section.
    pub(crate) fn begin(
        context: &'a Arc<ConnectionContext>,
        head: &Parts,
        body: &RequestBody,
        fields: PresentFields,
        is_invalid: bool,
        start: Stopwatch,
    ) -> Self {
        let reservation = BodyReservation::new(context);
        Self {
            context,
            fields,
            entry: AccessEntry::begin(context, head, &reservation).map(Box::new),
            reservation,
            start,
            is_invalid,
            is_chunked: body.size_hint().exact().is_none(),
            has_connection: head.version <= Version::HTTP_11,
        }
    }

    /// The body of the request, within its limits.
    pub(crate) fn limited_body(&self, body: RequestBody) -> LimitedBody {
        let limits = self.context.server.body_limits;
        LimitedBody::new(body, limits, Arc::clone(&self.reservation))
    }

    /// Ends with the response, and with the time at which the work on it ended. Returns that time.
    pub(crate) fn end(self, response: &mut Response, end: Stopwatch) -> Instant {
        let Self {
            context,
            reservation,
            ..
        } = &self;
        // After a refusal a client that expects `100 Continue` may send its body or not, so the bytes that
        // follow could be read as either. Nor is anything read after a request that other recipients may
        // read as two, or end elsewhere, nor after a body that is no longer awaited.
        let ends_connection = self.is_invalid
            || self.is_chunked && !reservation.has_ended()
            || reservation.limit_exceeded() == Some(LimitExceeded::Time)
            || self.fields.expect && !response.status().is_success();
        if ends_connection && self.has_connection {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
            context.state.linger();
        }
        let refusals = &context.server.refusals;
        refusals.count_response(response, || context.request_info());
        let metrics = context.server.metrics.shard();
        metrics.observe_request(self.start, end);
        if let Some(entry) = self.entry {
            entry.end(response.status().as_u16());
        }
        end.started_at()
    }
}
