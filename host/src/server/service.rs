//! The service of a connection: responds to its requests by calling a guest.
//!
//! The host responds without a guest to overload, to traps, to bodies that exceed a limit, and, with the
//! entry point `protocol`, to other methods than POST and to bodies that ended early.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use alldata_peer_protocol::content_coding;
use alldata_peer_protocol::outcome::{InvalidRequest, Outcome};
use hyper::body::Body as _;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use tracing::Instrument as _;

use crate::component::loaded_component::EntryPoint;
use crate::metrics::histogram::Stopwatch;
use crate::server::auth::{RequestHead, Unauthorized};
use crate::server::body::{LimitExceeded, LimitedBody};
use crate::server::context::ConnectionContext;
use crate::server::detach_on_drop::DetachOnDrop;
use crate::server::exchange::Exchange;
use crate::server::framing;
use crate::server::message_scanner::Defect;
use crate::server::present_fields::PresentFields;
use crate::server::put::{guest_response, put};
use crate::server::request_body::RequestBody;
use crate::server::response::{
    Response, ResponseKind, limit_outcome, respond, respond_to_exceeded,
};
use crate::server::shutdown::{Phase, Shutdown};
use crate::server::spans;
use crate::server::wasi_http::WasiHttpCall;
use crate::sink::BUSY_RETRY_SECONDS;
use crate::sink::reason::Reason;
use crate::sink::refusal::Refusal;
use crate::util::identity::Identity;

/// Responds to the requests of one connection.
pub(crate) struct PeerService(pub(crate) Arc<ConnectionContext>);

impl PeerService {
    /// Responds to one request. `head` is borrowed, since moving it copies some 200 bytes.
    ///
    /// If this is dropped early, because the connection is, the guest continues: a body that was read to its end is
    /// put. Also returns when the response was made, as measured for the metrics.
    pub(crate) async fn call(&self, head: &mut Parts, body: RequestBody) -> (Response, Instant) {
        let Self(context) = self;
        let start = context.server.metrics.stopwatch();
        let fields = PresentFields::of(&head.headers);
        context.begin_request(&head.headers, fields);
        let span = spans::request(context, head);
        let invalid = self.validate_framing(head, fields);
        let exchange = Exchange::begin(context, head, &body, fields, invalid.is_some(), start);
        let mut body = exchange.limited_body(body);
        let invalid = invalid.as_ref();
        let (response, end) = if span.is_disabled() {
            // Not a variable for both branches: the future would be copied from there.
            self.respond(head, &mut body, invalid, &exchange).await
        } else {
            let responding = self.respond(head, &mut body, invalid, &exchange);
            // Boxed: otherwise the future would have room for `responding` twice.
            Box::pin(responding.instrument(span.clone())).await
        };
        // Drains the unread rest before the exchange ends.
        drop(body);
        let mut response = span.in_scope(|| self.complete(response));
        spans::record_response(&span, &response);
        let end = exchange.end(&mut response, end);
        (response, end)
    }

    /// As [`call`](Self::call), for a request whose header section another server has read and checked, which may have
    /// authenticated the client. Ends when the server aborts its requests.
    pub(crate) async fn call_unframed(
        &self,
        request: Request<RequestBody>,
        shutdown: &Shutdown,
    ) -> Response {
        let Self(context) = self;
        let start = context.server.metrics.stopwatch();
        let (mut head, body) = request.into_parts();
        let fields = PresentFields::of(&head.headers);
        context.begin_request(&head.headers, fields);
        if let Some(client) = head.extensions.get::<Identity>() {
            context.set_client(client.clone());
        }
        let span = spans::request(context, &head);
        let invalid = framing::validate_codings(&head.headers, fields).err();
        let exchange = Exchange::begin(context, &head, &body, fields, invalid.is_some(), start);
        let reservation = &exchange.reservation;
        let mut body = exchange.limited_body(body);
        let responding = self.respond(&mut head, &mut body, invalid.as_ref(), &exchange);
        let responding = shutdown.run_until(Phase::Aborting, responding.instrument(span.clone()));
        let (response, end) = responding.await.unwrap_or_else(|| {
            let outcome = match context.server.entry_point {
                EntryPoint::Protocol(_) if !reservation.is_read() => Outcome::Unavailable {
                    retry_after_seconds: BUSY_RETRY_SECONDS,
                },
                // The put goes on.
                EntryPoint::Protocol(_) | EntryPoint::WasiHttp(_) => Outcome::Unknown,
            };
            let response = respond(&outcome, context.request_id());
            (response.into(), exchange.start.restart())
        });
        // Drains the unread rest before the exchange ends.
        drop(body);
        let mut response = span.in_scope(|| self.complete(response));
        spans::record_response(&span, &response);
        exchange.end(&mut response, end);
        response
    }

    /// The outcome of a request that other recipients may read differently, or that hyper lets pass.
    fn validate_framing(&self, head: &Parts, fields: PresentFields) -> Option<Outcome> {
        let Self(context) = self;
        match context.state.defect() {
            Some(Defect::Fragment) => Some(Outcome::InvalidRequest(InvalidRequest::Target)),
            Some(Defect::Length) => Some(Outcome::InvalidRequest(InvalidRequest::Syntax)),
            Some(Defect::TooLarge) => Some(limit_outcome(
                LimitExceeded::Bytes,
                context.server.body_limits,
            )),
            None => framing::validate(head, fields).err(),
        }
    }

    /// The response to a request, and the end of the work on it.
    async fn respond(
        &self,
        head: &mut Parts,
        body: &mut LimitedBody,
        invalid: Option<&Outcome>,
        exchange: &Exchange<'_>,
    ) -> (ResponseKind, Stopwatch) {
        let reservation = &exchange.reservation;
        let limits = self.0.server.body_limits;
        let valid = invalid.map_or(Ok(()), |outcome| Err(outcome.clone()));
        let response = match valid.and_then(|()| self.authorize(head)) {
            Ok(()) => self.dispatch(head, body, exchange).await,
            Err(outcome) => Err(outcome),
        };
        let response = match (reservation.limit_exceeded(), response) {
            // The guest saw the body end early, but not why.
            (Some(limit), _) => respond_to_exceeded(limit, limits, self.0.request_id()),
            (None, Ok(response_and_end)) => return response_and_end,
            (None, Err(outcome)) => respond(&outcome, self.0.request_id()),
        };
        (response.into(), exchange.start.restart())
    }

    /// The response to send.
    fn complete(&self, response: ResponseKind) -> Response {
        let Self(context) = self;
        match response {
            ResponseKind::Stored => {
                let stored = context.server.entry_point.stored_response();
                let response = stored.ok_or(Outcome::Failed);
                let response = response.and_then(|stored| guest_response(stored.clone(), context));
                response.unwrap_or_else(|outcome| respond(&outcome, context.request_id()))
            }
            ResponseKind::Other(response) => *response,
        }
    }

    /// Asks the authorizer, if there is one, and records who sent the request.
    fn authorize(&self, head: &Parts) -> Result<(), Outcome> {
        let Self(context) = self;
        let Some(authorizer) = &context.server.authorizer else {
            return Ok(());
        };
        let authorized = authorizer.authorize(&RequestHead {
            method: &head.method,
            uri: &head.uri,
            headers: &head.headers,
            peer: context.peer(),
            client_ip: context.client_ip(),
        });
        if let Ok(client) = &authorized {
            let request_id = context.request_id();
            tracing::debug!(client = client.name(), %request_id, "authorized");
            context.set_client(client.clone());
        }
        let has_token = |error| error == Unauthorized::InvalidCredentials;
        authorized.map(drop).map_err(|error| Outcome::Unauthorized {
            has_token: has_token(error),
        })
    }

    /// Calls a guest. Returns its response and the end of the work on it, or the outcome of a request that got none.
    async fn dispatch(
        &self,
        head: &mut Parts,
        body: &mut LimitedBody,
        exchange: &Exchange<'_>,
    ) -> Result<(ResponseKind, Stopwatch), Outcome> {
        let Self(context) = self;
        let reservation = &exchange.reservation;
        let announced = body.size_hint().lower();
        let is_post = head.method == Method::POST;
        let limits = context.server.body_limits;
        if is_post && announced > limits.bytes {
            return Err(limit_outcome(LimitExceeded::Bytes, limits));
        }
        match &context.server.entry_point {
            EntryPoint::Protocol(_) if !is_post => Err(Outcome::MethodNotAllowed),
            EntryPoint::Protocol(_) => {
                if exchange.fields.content_encoding {
                    let codings = head.headers.get_all(CONTENT_ENCODING).iter();
                    let codings = codings.map(HeaderValue::as_bytes);
                    if let Some(coding) = content_coding::first_unsupported(codings) {
                        return Err(Outcome::UnsupportedContentCoding(coding));
                    }
                }
                let needs_context = context.server.dispatcher.needs_context();
                let put_context = needs_context.then(|| {
                    let (uri, headers) = (mem::take(&mut head.uri), mem::take(&mut head.headers));
                    context.put_context(uri, headers)
                });
                // The clock is read again only after what may take long.
                let mut start = match context.server.authorizer {
                    Some(_) => exchange.start.restart(),
                    None => exchange.start,
                };
                let body = start.exclude_wait(body.collect()).await;
                let body = body.map_err(|_ended_early| Outcome::IncompleteBody)?;
                let put = Box::pin(put(Arc::clone(reservation), body, put_context, start));
                DetachOnDrop::new(put, &*context.state).await
            }
            EntryPoint::WasiHttp(_) => {
                if context.server.authorizer.is_some() {
                    // The credentials are for this server.
                    head.headers.remove(AUTHORIZATION);
                }
                let (empty, ()) = Request::new(()).into_parts();
                let request = Request::from_parts(mem::replace(head, empty), body.take_coalesced());
                let call = WasiHttpCall::start(context, request, Arc::clone(reservation));
                // Boxed, since its size would be part of every put's future.
                let mut response = Box::pin(call).await?;
                let status = response.status();
                if is_post && status == StatusCode::CREATED {
                    context.server.metrics.shard().count_stored();
                } else if status.is_success() {
                    // Such as the response to a GET, whose path a component may serve.
                    let other = Refusal {
                        status: status.as_u16(),
                        ..Refusal::new(Reason::OtherStatus)
                    };
                    response.extensions_mut().insert(other);
                }
                Ok((response.into(), exchange.start.restart()))
            }
        }
    }
}
