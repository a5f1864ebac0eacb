//! One put to one peer over `wasi:http` 0.2: a request, its body and the response, within one time-out.
//!
//! Does not retry.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use alldata_peer_protocol::client::{MAX_PROBLEM_BYTES, PUT_BODY_END, PeerError, put_body_start};
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::outgoing_handler::{FutureIncomingResponse, handle};
use wasip2::http::types::{
    Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions,
    Scheme,
};
use wasip2::io::poll::{Pollable, poll};
use wasip2::io::streams::OutputStream;

use crate::configuration::{Configuration, Peer};
use crate::failure::{PutFailure, classify_error, fields, read_result};

const NANOSECONDS_PER_MILLISECOND: u64 = 1_000_000;

/// Puts to `peer`. Blocks instead of waiting, since WASI 0.2 has no asynchronous functions.
#[expect(clippy::unused_async, reason = "with WASI 0.3 it waits")]
pub(crate) async fn put(
    peer: &Peer,
    configuration: &Configuration,
    key: &str,
    event: &str,
) -> Result<(), PutFailure> {
    let head = put_body_start(key);
    let parts = [&head, event, PUT_BODY_END].map(str::as_bytes);
    let length = parts.iter().map(|part| part.len()).sum();
    let timeout_ns = configuration.timeout_ms * NANOSECONDS_PER_MILLISECOND;
    let deadline = subscribe_duration(timeout_ns);
    let request = request(peer, configuration.token.as_deref(), length)
        .map_err(|reason| PutFailure::new(PeerError::Failed(reason.clone()), reason))?;
    let failed = || PutFailure::lost("the platform has no stream for the request");
    let body = request.body().map_err(|()| failed())?;
    let stream = body.write().map_err(|()| failed())?;
    let options = RequestOptions::new();
    // Shorter than the deadline, so that a platform that honours it can report that nothing was sent.
    let _ = options.set_connect_timeout(Some(timeout_ns / 8 * 7));
    let future = handle(request, Some(options)).map_err(|code| classify_error(&code))?;
    // A body that is not sent to its end is no error yet: the response may come before.
    let is_whole = send(&stream, &parts, &future, &deadline);
    drop(stream);
    if is_whole {
        let _ = OutgoingBody::finish(body, None);
    }
    let response = response(&future, &deadline).map_err(|failure| match is_whole {
        true => failure,
        // No peer stores an incomplete body.
        false => failure.not_stored(),
    })?;
    read(&response, &deadline)
}

/// The request without its body. The error is a sentence that names the part that the platform refused.
fn request(peer: &Peer, token: Option<&str>, length: usize) -> Result<OutgoingRequest, String> {
    let refused = |part: &str| format!("{}: the platform does not take its {part}", peer.name);
    let fields = fields(token, length);
    let fields = Fields::from_list(&fields).map_err(|_| refused("header fields"))?;
    let request = OutgoingRequest::new(fields);
    let scheme = if peer.is_https {
        Scheme::Https
    } else {
        Scheme::Http
    };
    let (authority, path) = (Some(&*peer.authority), Some(&*peer.path_with_query));
    request
        .set_method(&Method::Post)
        .map_err(|()| refused("method"))?;
    request
        .set_scheme(Some(&scheme))
        .map_err(|()| refused("scheme"))?;
    request
        .set_authority(authority)
        .map_err(|()| refused("authority"))?;
    request
        .set_path_with_query(path)
        .map_err(|()| refused("path"))?;
    Ok(request)
}

/// Sends the body. `false` if it is not sent to its end in time.
fn send(
    stream: &OutputStream,
    parts: &[&[u8]],
    future: &FutureIncomingResponse,
    deadline: &Pollable,
) -> bool {
    let (writable, answered) = (stream.subscribe(), future.subscribe());
    // How many bytes the stream accepts now; `None` once they are no longer read.
    let room = || loop {
        match stream.check_write() {
            Ok(0) if deadline.ready() || answered.ready() => return None,
            Ok(0) => {
                poll(&[&writable, &answered, deadline]);
            }
            Ok(bytes) => return Some(usize::try_from(bytes).unwrap_or(usize::MAX)),
            Err(_) => return None,
        }
    };
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            let Some(bytes) = room() else { return false };
            let (now, later) = rest.split_at(bytes.min(rest.len()));
            if stream.write(now).is_err() {
                return false;
            }
            rest = later;
        }
    }
    // From here on the peer may have the complete body.
    if stream.flush().is_ok() {
        room();
    }
    true
}

/// Waits for the response, without its body.
fn response(
    future: &FutureIncomingResponse,
    deadline: &Pollable,
) -> Result<IncomingResponse, PutFailure> {
    let answered = future.subscribe();
    loop {
        match future.get() {
            Some(Ok(Ok(response))) => return Ok(response),
            Some(Ok(Err(code))) => return Err(classify_error(&code)),
            Some(Err(())) => return Err(PutFailure::lost("the platform lost the answer")),
            None if deadline.ready() => return Err(PutFailure::lost("no answer in time")),
            None => {
                poll(&[&answered, deadline]);
            }
        }
    }
}

/// The result of the put by the response, which is read to its end so that the connection can be reused.
fn read(response: &IncomingResponse, deadline: &Pollable) -> Result<(), PutFailure> {
    let status = response.status();
    let retry_after = response.headers().get("retry-after").into_iter().next();
    let text = read_body(response, deadline);
    read_result(status, retry_after, &text)
}

/// The body, up to the size of a problem and as far as it arrives in time.
fn read_body(response: &IncomingResponse, deadline: &Pollable) -> Vec<u8> {
    let mut text = Vec::new();
    let Ok(body) = response.consume() else {
        return text;
    };
    let Ok(stream) = body.stream() else {
        return text;
    };
    let readable = stream.subscribe();
    while text.len() < MAX_PROBLEM_BYTES && !deadline.ready() {
        match stream.read((MAX_PROBLEM_BYTES - text.len()) as u64) {
            Ok(chunk) if chunk.is_empty() => {
                poll(&[&readable, deadline]);
            }
            Ok(chunk) => text.extend_from_slice(&chunk),
            Err(_) => break,
        }
    }
    drop(readable);
    drop(stream);
    IncomingBody::finish(body);
    text
}
