//! The component: exports `wasi:http/incoming-handler` and `protocol`, imports `put-sink`.
//!
//! Bindings and glue only; the wire protocol itself is `alldata_peer_protocol`.
//!
//! Nothing here keeps state between two requests.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use alldata_peer_freestanding as _;
use alldata_peer_protocol::body::{Body, ContentTooLarge};
use alldata_peer_protocol::content_coding;
use alldata_peer_protocol::decode::{MAX_BODY_BYTES, Put, decode};
use alldata_peer_protocol::outcome::{InvalidRequest, Outcome, PROBLEM_MEDIA_TYPE, Response};
use alldata_peer_protocol::same_event::same_event;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

mod bindings {
    #![expect(unsafe_code, reason = "the code generated for an export is unsafe")]

    use crate::Peer;

    wit_bindgen::generate!({ path: "../../wit", world: "peer" });
    export!(Peer);
}

use bindings::alldata::peer::put_sink::{self, PutError};
use bindings::exports::alldata::peer::protocol::{self, ByteRange, RequestError};

/// The bytes that one read asks for: more than a host returns at once, so that the component does not
/// split a body further.
const READ_BYTES: u64 = 1024 * 1024;

/// The most bytes of one `blocking-write-and-flush`, by its definition in `wasi:io`.
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
        send(out, outcome.response());
    }
}

impl protocol::Guest for Peer {
    fn decode(body: Vec<u8>) -> Result<protocol::Put, protocol::Response> {
        match decode(&body) {
            Ok(Put { key, event }) => Ok(protocol::Put {
                key: key.into_owned(),
                event: byte_range(&body, event),
            }),
            Err(error) => Err(Outcome::Malformed(error).response().into()),
        }
    }

    fn stored_response() -> protocol::Response {
        Outcome::Stored.response().into()
    }

    fn error_response(error: RequestError) -> protocol::Response {
        Outcome::from(error).response().into()
    }

    fn same_event(left: String, right: String) -> bool {
        same_event(&left, &right)
    }
}

/// Where a part of a body is.
fn byte_range(body: &[u8], part: &str) -> ByteRange {
    // `part` is a slice of `body`, so the difference of their addresses is its offset.
    let offset = part.as_ptr().addr() - body.as_ptr().addr();
    let [offset, length] = [offset, part.len()].map(|bytes| {
        u32::try_from(bytes).expect("a body is smaller than a memory of 32-bit addresses")
    });
    ByteRange { offset, length }
}

/// The outcome of a complete body.
fn put(body: &[u8]) -> Outcome {
    match decode(body) {
        Ok(put) => match put_sink::put(&put.key, put.event) {
            Ok(()) => Outcome::Stored,
            Err(error) => error.into(),
        },
        Err(error) => Outcome::Malformed(error),
    }
}

impl From<PutError> for Outcome {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Conflict => Self::Conflict,
            PutError::Rejected(reason) => Self::Rejected(reason),
            PutError::Unavailable(retry_after_seconds) => Self::Unavailable {
                retry_after_seconds,
            },
            PutError::Unknown => Self::Unknown,
            PutError::Failed(_) => Self::Failed,
        }
    }
}

impl From<RequestError> for Outcome {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::MalformedRequest => Self::InvalidRequest(InvalidRequest::Syntax),
            RequestError::InvalidTarget => Self::InvalidRequest(InvalidRequest::Target),
            RequestError::InvalidHost => Self::InvalidHost,
            RequestError::IncompleteBody => Self::IncompleteBody,
            RequestError::MethodNotAllowed => Self::MethodNotAllowed,
            RequestError::RequestTimeout => Self::RequestTimeout,
            RequestError::ContentTooLarge(limit) => Self::ContentTooLarge { limit },
            RequestError::UriTooLong => Self::InvalidRequest(InvalidRequest::UriTooLong),
            RequestError::UnsupportedContentCoding(coding) => {
                Self::UnsupportedContentCoding(content_coding::printable(coding.as_bytes()))
            }
            RequestError::HeaderFieldsTooLarge => {
                Self::InvalidRequest(InvalidRequest::HeaderFieldsTooLarge)
            }
            RequestError::UnsupportedTransferCoding => Self::UnsupportedTransferCoding,
            RequestError::HttpVersionNotSupported => Self::InvalidRequest(InvalidRequest::Version),
            RequestError::Put(error) => error.into(),
        }
    }
}

impl From<Response> for protocol::Response {
    fn from(response: Response) -> Self {
        Self {
            status: response.status,
            body: response.body(),
            header: response
                .header
                .map(|(name, value)| (name.to_string(), value)),
        }
    }
}

/// The content coding of the body, if it has an unsupported one.
fn content_coding(request: &IncomingRequest) -> Option<String> {
    let values = request.headers().get("content-encoding");
    content_coding::first_unsupported(values.iter().map(Vec::as_slice))
}

/// The complete body, or the outcome of the request without it.
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
            Ok(chunk) => body
                .push(chunk)
                .map_err(|ContentTooLarge| Outcome::ContentTooLarge {
                    limit: Some(MAX_BODY_BYTES as u64),
                })?,
            Err(StreamError::Closed) => return Ok(body),
            // The error is not asked for its reason: on one platform, asking ends the server.
            Err(StreamError::LastOperationFailed(_)) => return Err(Outcome::IncompleteBody),
        }
    }
}

/// Sends a response. A client that has gone is no error: its event stays stored.
///
/// An empty body is opened and finished too: not every platform sends a response without that.
fn send(out: ResponseOutparam, response: Response) {
    let text = response.body();
    let status = response.status;
    let response = OutgoingResponse::new(fields(response.header, &text));
    // Fails only for a number that is no status code; `Outcome::response` has none.
    let _ = response.set_status_code(status);
    // Fails only for a second call.
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

/// The length is always set: not every platform counts the bytes.
fn fields(header: Option<(&'static str, String)>, text: &str) -> Fields {
    let mut list = alloc::vec![(
        "content-length".to_string(),
        text.len().to_string().into_bytes()
    )];
    if !text.is_empty() {
        list.push(("content-type".to_string(), PROBLEM_MEDIA_TYPE.into()));
    }
    list.extend(header.map(|(name, value)| (name.to_string(), value.into_bytes())));
    // Fails only for a malformed or forbidden field; these are neither.
    Fields::from_list(&list).unwrap_or_else(|_| Fields::new())
}
