//! The component: `wasi:http/incoming-handler` and the shorter `put-handler` on one side, `put-sink`
//! on the other.
//!
//! Bindings and glue only: what a body means and which response belongs to an outcome is in
//! `alldata_peer_protocol`.
//!
//! Nothing here keeps state between two requests.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

use alldata_peer_freestanding as _;
use alldata_peer_protocol::body::{Body, TooLarge};
use alldata_peer_protocol::content_coding;
use alldata_peer_protocol::decode::{MAX_BODY_BYTES, Put, decode};
use alldata_peer_protocol::outcome::{Answer, Outcome, PROBLEM_MEDIA_TYPE};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

mod bindings {
    #![expect(unsafe_code, reason = "what is generated for an export is unsafe")]

    use crate::Peer;

    wit_bindgen::generate!({ path: "../../wit", world: "peer" });
    export!(Peer);
}

use bindings::alldata::peer::put_sink::{self, PutError};
use bindings::exports::alldata::peer::put_handler;

/// How much one read asks for: more than a host hands over at once, so that it is never the
/// component that splits a body.
const READ_BYTES: u64 = 1024 * 1024;

/// How much `blocking-write-and-flush` takes at once, by its definition in `wasi:io`.
const WRITE_BYTES: usize = 4096;

struct Peer;

wasip2::http::proxy::export!(Peer);

impl Guest for Peer {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let outcome = match request.method() {
            Method::Post => match content_coding(&request) {
                Some(coding) => Outcome::UnsupportedContentCoding(coding),
                None => {
                    read_body(&request).map_or_else(|outcome| outcome, |body| put(body.bytes()))
                }
            },
            _ => Outcome::MethodNotAllowed,
        };
        respond(out, outcome.answer());
    }
}

impl put_handler::Guest for Peer {
    fn decode(body: Vec<u8>) -> Result<put_handler::Put, put_handler::Answer> {
        match decode(&body) {
            Ok(Put { key, event }) => {
                let key = key.into_owned();
                let start = event.as_ptr().addr() - body.as_ptr().addr();
                let event = start..start + event.len();
                Ok(put_handler::Put {
                    key,
                    event: cut(body, event),
                    stored: Outcome::Stored.answer().into(),
                })
            }
            Err(error) => Err(Outcome::Malformed(error).answer().into()),
        }
    }

    fn explain(error: PutError) -> put_handler::Answer {
        not_acknowledged(error).answer().into()
    }
}

/// A part of a body, in the memory that the body has: a large one need not be there twice.
fn cut(mut body: Vec<u8>, part: Range<usize>) -> String {
    body.truncate(part.end);
    body.drain(..part.start);
    String::from_utf8(body).expect("a part of a body that was decoded is text")
}

/// What becomes of a body that arrived whole.
fn put(body: &[u8]) -> Outcome {
    match decode(body) {
        Ok(put) => match put_sink::put(&put.key, put.event) {
            Ok(()) => Outcome::Stored,
            Err(error) => not_acknowledged(error),
        },
        Err(error) => Outcome::Malformed(error),
    }
}

fn not_acknowledged(error: PutError) -> Outcome {
    match error {
        PutError::Conflict => Outcome::Conflict,
        PutError::Rejected(reason) => Outcome::Rejected(reason),
        PutError::Unavailable(retry_after_seconds) => Outcome::Unavailable {
            retry_after_seconds,
        },
        PutError::Unknown => Outcome::Unknown,
        PutError::Failed(_) => Outcome::Failed,
    }
}

impl From<Answer> for put_handler::Answer {
    fn from(answer: Answer) -> Self {
        Self {
            status: answer.status,
            problem: answer.body(),
            header: answer.header.map(|(name, value)| (name.to_string(), value)),
        }
    }
}

/// The coding that the body has, unless it has none.
fn content_coding(request: &IncomingRequest) -> Option<String> {
    let values = request.headers().get("content-encoding");
    content_coding::first_other(values.iter().map(Vec::as_slice))
}

/// The whole body, or how the request ended without it.
fn read_body(request: &IncomingRequest) -> Result<Body, Outcome> {
    let Ok(incoming) = request.consume() else {
        return Err(Outcome::Failed);
    };
    let Ok(stream) = IncomingBody::stream(&incoming) else {
        return Err(Outcome::Failed);
    };
    let mut body = Body::default();
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(chunk) => body.push(chunk).map_err(|TooLarge| Outcome::TooLarge {
                limit: Some(MAX_BODY_BYTES as u64),
            })?,
            Err(StreamError::Closed) => return Ok(body),
            // Nor is it asked why: of the platforms there are, one ends on that question.
            Err(StreamError::LastOperationFailed(_)) => return Err(Outcome::CutOff),
        }
    }
}

/// The one place that sets the response. A client that is gone by now is no error: what was
/// put stays put.
///
/// An empty body is opened and finished too: not every platform sends a response without one.
fn respond(out: ResponseOutparam, answer: Answer) {
    let text = answer.body();
    let response = OutgoingResponse::new(fields(answer.header, &text));
    // Fails for a number that is no status code only; `Outcome::answer` has none.
    let _ = response.set_status_code(answer.status);
    // Fails for a second call only.
    let body = response.body();
    ResponseOutparam::set(out, Ok(response));
    let Ok(body) = body else { return };
    if !text.is_empty()
        && let Ok(stream) = body.write()
    {
        for chunk in text.as_bytes().chunks(WRITE_BYTES) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                break;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}

/// The length is always there: not every platform counts the bytes.
fn fields(header: Option<(&'static str, String)>, text: &str) -> Fields {
    let mut list = alloc::vec![(
        "content-length".to_string(),
        text.len().to_string().into_bytes()
    )];
    if !text.is_empty() {
        list.push(("content-type".to_string(), PROBLEM_MEDIA_TYPE.into()));
    }
    list.extend(header.map(|(name, value)| (name.to_string(), value.into_bytes())));
    // Fails for a malformed or forbidden field only; these are neither.
    Fields::from_list(&list).unwrap_or_else(|_| Fields::new())
}
