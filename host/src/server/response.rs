//! Answers as the host sends them: made of an outcome, of what a guest says, or by a guest itself.
//!
//! Never decides what is answered.

use alldata_peer_guest::outcome::{Outcome, PROBLEM_MEDIA_TYPE};
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::StatusCode;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::component::protocol::PutAnswer;
use crate::sink::refusal::Refusal;

/// What is answered: as a whole, or as a guest writes it.
pub(crate) type Response = hyper::Response<Either<Full<Bytes>, HyperOutgoingBody>>;

/// Why what a guest answered is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("{0} is no status code of an answer")]
    Status(u16),
    #[error("the field {0:?} is malformed, or not a guest's to set")]
    Field(String),
}

/// What the guest would answer for `outcome`, where there is no guest to do it.
pub(crate) fn respond(outcome: &Outcome) -> Response {
    let answer = outcome.answer();
    let (status, problem) = (answer.status, answer.body());
    let header = answer.header;
    let header = header.map(|(name, value)| (HeaderName::from_static(name), value));
    let response = complete(status, header, problem);
    let mut response =
        response.expect("outcomes have status codes of RFC 9110 and printable fields");
    let refusal = Refusal::of_outcome(outcome);
    response.extensions_mut().insert(refusal);
    response
}

/// What a guest answers to a put.
///
/// # Errors
///
/// When it is no answer of HTTP, or says how it is framed: that is the connection's to say.
pub(crate) fn respond_with(answer: PutAnswer) -> Result<Response, NoAnswer> {
    let header = match answer.header {
        None => None,
        Some((name, value)) => match HeaderName::try_from(&name) {
            Ok(known) if !is_of_the_connection(&known) => Some((known, value)),
            _ => return Err(NoAnswer::Field(name)),
        },
    };
    complete(answer.status, header, answer.problem)
}

fn is_of_the_connection(name: &HeaderName) -> bool {
    *name == CONTENT_LENGTH || DEFAULT_FORBIDDEN_HEADERS.contains(name)
}

/// An answer with a problem document as its body, or without one.
fn complete(
    status: u16,
    header: Option<(HeaderName, String)>,
    problem: String,
) -> Result<Response, NoAnswer> {
    let has_problem = !problem.is_empty();
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(problem))));
    *response.status_mut() = match StatusCode::from_u16(status) {
        Ok(status) if !status.is_informational() => status,
        _ => return Err(NoAnswer::Status(status)),
    };
    let headers = response.headers_mut();
    if has_problem {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE));
    }
    if let Some((name, value)) = header {
        let value = HeaderValue::try_from(value).map_err(|_| NoAnswer::Field(name.to_string()))?;
        headers.insert(name, value);
    }
    Ok(response)
}
