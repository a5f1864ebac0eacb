//! The component for WASI 0.3: exports `wasi:http/handler`, imports `put-sink`.
//!
//! Bindings and glue only; the wire protocol itself is `alldata_peer_protocol`. One instance may run several
//! calls at a time: while one waits, others go on. Nothing here keeps state between two of them.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::borrow::ToOwned as _;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use alldata_peer_freestanding as _;
use alldata_peer_protocol::body::{Body, ContentTooLarge};
use alldata_peer_protocol::content_coding;
use alldata_peer_protocol::decode::{MAX_BODY_BYTES, decode};
use alldata_peer_protocol::outcome::{Outcome, PROBLEM_MEDIA_TYPE};
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response};
use wasip3::wit_bindgen::{StreamResult, spawn_local};
use wasip3::{wit_future, wit_stream};

mod bindings {
    wasip3::wit_bindgen::generate!({
        path: "../../wit/wasi-0.3",
        world: "peer",
        runtime_path: "wasip3::wit_bindgen::rt",
        generate_all,
    });
}

use bindings::alldata::peer::put_sink::{self, PutError};

/// The most bytes of one read: enough for most bodies, and small for an instance that serves several.
const READ_BYTES: usize = 16 * 1024;

struct Peer;

wasip3::http::service::export!(Peer);

impl Guest for Peer {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let outcome = match request.get_method() {
            Method::Post => match content_coding(&request) {
                Some(coding) => Outcome::UnsupportedContentCoding(coding),
                None => match read_body(request).await {
                    Ok(body) => put(body.bytes()).await,
                    Err(outcome) => outcome,
                },
            },
            _ => Outcome::MethodNotAllowed,
        };
        Ok(respond(&outcome))
    }
}

/// The outcome of a complete body.
async fn put(body: &[u8]) -> Outcome {
    match decode(body) {
        Ok(put) => match put_sink::put(put.key.into_owned(), put.event.to_owned()).await {
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

/// The content coding of the body, if it has an unsupported one.
fn content_coding(request: &Request) -> Option<String> {
    let values = request.get_headers().get("content-encoding");
    content_coding::first_unsupported(values.iter().map(Vec::as_slice))
}

/// The complete body, or the outcome of the request without it.
async fn read_body(request: Request) -> Result<Body, Outcome> {
    // Nothing is reported about the processing of the body: its sender ends here.
    let (_, processed) = wit_future::new(|| Ok(()));
    let (mut stream, trailers) = Request::consume_body(request, processed);
    let mut body = Body::default();
    loop {
        let (result, chunk) = stream.read(Vec::with_capacity(READ_BYTES)).await;
        body.push(chunk)
            .map_err(|ContentTooLarge| Outcome::ContentTooLarge {
                limit: Some(MAX_BODY_BYTES as u64),
            })?;
        if !matches!(result, StreamResult::Complete(_)) {
            break;
        }
    }
    // A stream that was cut off ends like a complete one: only this tells them apart.
    match trailers.await {
        Ok(_) => Ok(body),
        Err(ErrorCode::HttpRequestBodySize(limit)) => Err(Outcome::ContentTooLarge { limit }),
        Err(ErrorCode::ConnectionReadTimeout) => Err(Outcome::RequestTimeout),
        Err(_) => Err(Outcome::IncompleteBody),
    }
}

/// The response to an outcome. A client that has gone is no error: its event stays stored.
fn respond(outcome: &Outcome) -> Response {
    let encoded = outcome.response();
    let (text, status) = (encoded.body(), encoded.status);
    let fields = fields(encoded.header, &text);
    let (complete, trailers) = wit_future::new(|| Ok(None));
    drop(complete);
    let contents = (!text.is_empty()).then(|| {
        let (mut writer, reader) = wit_stream::new();
        spawn_local(async move {
            writer.write_all(text.into_bytes()).await;
        });
        reader
    });
    let (response, _transmitted) = Response::new(fields, contents, trailers);
    // Fails only for a number that is no status code; `Outcome::response` has none.
    let _ = response.set_status_code(status);
    response
}

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
