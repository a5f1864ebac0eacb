//! Responses: from the outcome of a request, or from the response of a guest.

use alldata_peer_protocol::outcome::{Outcome, PROBLEM_MEDIA_TYPE};
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::StatusCode;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::component::pool::AcquireError;
use crate::component::put_sink::protocol;
use crate::server::body::LimitExceeded;
use crate::server::body_quota::BodyLimits;
use crate::server::problem_id;
use crate::sink::BUSY_RETRY_SECONDS;
use crate::sink::reason::Reason;
use crate::sink::refusal::Refusal;
use crate::util::request_id::RequestId;

/// A response with a body of the host, or one that a guest writes.
pub(crate) type Response = hyper::Response<Either<Full<Bytes>, HyperOutgoingBody>>;

/// The response to a request, as it is passed from the work on the request to its end.
pub(crate) enum ResponseKind {
    /// The one to each put that was stored.
    Stored,
    /// Boxed, since it is rare and is moved several times.
    Other(Box<Response>),
}

/// Why the response of a guest is invalid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidResponse {
    #[error("{0} is not a final status code")]
    Status(u16),
    #[error("the field {0:?} is malformed, or must not be set by a guest")]
    Field(String),
}

impl From<Response> for ResponseKind {
    fn from(response: Response) -> Self {
        Self::Other(Box::new(response))
    }
}

/// The response of the host to the request `id` with this `outcome`, which equals the one that a guest would make.
pub(crate) fn respond(outcome: &Outcome, id: RequestId) -> Response {
    let encoded = outcome.response();
    let (status, problem) = (encoded.status, encoded.body());
    let header = encoded
        .header
        .map(|(name, value)| (HeaderName::from_static(name), value));
    let response = complete(status, header, problem, || id);
    let mut response =
        response.expect("outcomes have status codes of RFC 9110 and printable fields");
    let refusal = Refusal::from_outcome(outcome);
    response.extensions_mut().insert(refusal);
    response
}

/// The response of a guest to a put, of the request with the id that `id` makes.
///
/// # Errors
///
/// When its status code or its field is invalid, or the field describes the connection.
pub(crate) fn into_response(
    response: protocol::Response,
    id: impl FnOnce() -> RequestId,
) -> Result<Response, InvalidResponse> {
    let header = match response.header {
        None => None,
        Some((name, value)) => match HeaderName::try_from(&name) {
            Ok(known) if !is_connection_field(&known) => Some((known, value)),
            _ => return Err(InvalidResponse::Field(name)),
        },
    };
    complete(response.status, header, response.body, id)
}

/// The outcome of the request `id`, for which no instance was acquired.
pub(crate) fn acquire_outcome(error: AcquireError, id: RequestId) -> Outcome {
    match error {
        AcquireError::Exhausted => Outcome::Unavailable {
            retry_after_seconds: BUSY_RETRY_SECONDS,
        },
        AcquireError::Instantiate(error) => {
            tracing::error!(
                request_id = %id,
                error = format!("{error:#}"),
                "cannot instantiate the component"
            );
            Outcome::Failed
        }
    }
}

/// The response to a request whose body exceeded a limit.
pub(crate) fn respond_to_exceeded(
    limit: LimitExceeded,
    limits: BodyLimits,
    id: RequestId,
) -> Response {
    let mut response = respond(&limit_outcome(limit, limits), id);
    if limit == LimitExceeded::Quota {
        let refusal = Refusal::new(Reason::TooManyBodyBytes);
        response.extensions_mut().insert(refusal);
    }
    response
}

/// The outcome of a request whose body exceeded a limit.
pub(crate) fn limit_outcome(limit: LimitExceeded, limits: BodyLimits) -> Outcome {
    match limit {
        LimitExceeded::Bytes => Outcome::ContentTooLarge {
            limit: Some(limits.bytes),
        },
        LimitExceeded::OuterBytes => Outcome::ContentTooLarge { limit: None },
        LimitExceeded::Time => Outcome::RequestTimeout,
        LimitExceeded::Quota => Outcome::Unavailable {
            retry_after_seconds: BUSY_RETRY_SECONDS,
        },
    }
}

fn is_connection_field(name: &HeaderName) -> bool {
    *name == CONTENT_LENGTH || DEFAULT_FORBIDDEN_HEADERS.contains(name)
}

/// A response with a problem document as its body, or without a body.
fn complete(
    status: u16,
    header: Option<(HeaderName, String)>,
    mut problem: String,
    id: impl FnOnce() -> RequestId,
) -> Result<Response, InvalidResponse> {
    let has_problem = !problem.is_empty();
    let status = match StatusCode::from_u16(status) {
        Ok(status) if !status.is_informational() => status,
        _ => return Err(InvalidResponse::Status(status)),
    };
    let id = (!status.is_success()).then(id);
    if let Some(id) = id {
        problem_id::add_member(&mut problem, id);
    }
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(problem))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Some(id) = id {
        problem_id::add_field(headers, id);
    }
    if has_problem {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE));
    }
    if let Some((name, value)) = header {
        let value =
            HeaderValue::try_from(value).map_err(|_| InvalidResponse::Field(name.to_string()))?;
        headers.insert(name, value);
    }
    Ok(response)
}
