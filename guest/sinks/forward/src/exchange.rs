//! One put to one peer: a request, its body, and the answer, all within one time-out.
//!
//! The only file here that speaks `wasi:http`. Never tries again.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use alldata_peer_protocol::client::{
    DEFAULT_RETRY_SECONDS, MAX_PROBLEM_BYTES, PUT_TAIL, Refusal, put_head, read_answer,
};
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::outgoing_handler::{FutureIncomingResponse, handle};
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme,
};
use wasip2::io::poll::{Pollable, poll};
use wasip2::io::streams::OutputStream;

use crate::configuration::{Configuration, Peer};

const NANOSECONDS_PER_MILLISECOND: u64 = 1_000_000;

/// Why a peer did not acknowledge a put.
pub(crate) struct NoAnswer {
    pub(crate) refusal: Refusal,
    /// For the log, where the peer itself did not answer or should not have to.
    pub(crate) reason: Option<String>,
}

impl NoAnswer {
    fn new(refusal: Refusal, reason: impl Into<String>) -> Self {
        Self {
            refusal,
            reason: Some(reason.into()),
        }
    }

    /// Where it is sure that the event is not stored.
    fn not_stored(self) -> Self {
        match self.refusal {
            Refusal::Unknown => Self {
                refusal: Refusal::Unavailable {
                    retry_after_seconds: DEFAULT_RETRY_SECONDS,
                },
                ..self
            },
            _ => self,
        }
    }

    /// Sent, and then nothing more was heard.
    fn lost(reason: &str) -> Self {
        Self::new(Refusal::Unknown, reason)
    }
}

/// Puts to `peer`.
pub(crate) fn put(
    peer: &Peer,
    configuration: &Configuration,
    key: &str,
    event: &str,
) -> Result<(), NoAnswer> {
    let head = put_head(key);
    let parts = [&head, event, PUT_TAIL].map(str::as_bytes);
    let length = parts.iter().map(|part| part.len()).sum();
    let timeout_ns = configuration.timeout_ms * NANOSECONDS_PER_MILLISECOND;
    let deadline = subscribe_duration(timeout_ns);
    let request = request(peer, configuration.token.as_deref(), length)
        .map_err(|reason| NoAnswer::new(Refusal::Failed(reason.clone()), reason))?;
    let failed = || NoAnswer::lost("the platform has no stream for the request");
    let body = request.body().map_err(|()| failed())?;
    let stream = body.write().map_err(|()| failed())?;
    let options = RequestOptions::new();
    // Before the deadline, so that a platform that keeps it can still say that nothing was sent.
    let _ = options.set_connect_timeout(Some(timeout_ns / 8 * 7));
    let future = handle(request, Some(options)).map_err(|code| meaning(&code))?;
    // What can't be sent is told by the answer, which may come before the end of the body.
    let is_whole = send(&stream, &parts, &future, &deadline);
    drop(stream);
    if is_whole {
        let _ = OutgoingBody::finish(body, None);
    }
    let response = response(&future, &deadline).map_err(|no_answer| match is_whole {
        true => no_answer,
        // No peer puts what it did not get to its end.
        false => no_answer.not_stored(),
    })?;
    read(&response, &deadline)
}

/// The head of the request, or a sentence about what the platform does not take of it.
fn request(peer: &Peer, token: Option<&str>, length: usize) -> Result<OutgoingRequest, String> {
    let refused = |what: &str| format!("{}: the platform does not take its {what}", peer.name);
    let mut fields = alloc::vec![
        ("content-type".to_string(), b"application/json".to_vec()),
        (
            "content-length".to_string(),
            length.to_string().into_bytes()
        ),
    ];
    if let Some(token) = token {
        fields.push((
            "authorization".to_string(),
            format!("Bearer {token}").into_bytes(),
        ));
    }
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

/// Sends the body. `false` where it is not taken to its end, or not in time.
fn send(
    stream: &OutputStream,
    parts: &[&[u8]],
    future: &FutureIncomingResponse,
    deadline: &Pollable,
) -> bool {
    let (writable, answered) = (stream.subscribe(), future.subscribe());
    // How many bytes the stream takes now; `None` where nobody reads them any more.
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
    // From here on the peer may have it all.
    if stream.flush().is_ok() {
        room();
    }
    true
}

/// Waits for the head of the answer.
fn response(
    future: &FutureIncomingResponse,
    deadline: &Pollable,
) -> Result<IncomingResponse, NoAnswer> {
    let answered = future.subscribe();
    loop {
        match future.get() {
            Some(Ok(Ok(response))) => return Ok(response),
            Some(Ok(Err(code))) => return Err(meaning(&code)),
            Some(Err(())) => return Err(NoAnswer::lost("the platform lost the answer")),
            None if deadline.ready() => return Err(NoAnswer::lost("no answer in time")),
            None => {
                poll(&[&answered, deadline]);
            }
        }
    }
}

/// What the answer says. It is read to its end, so that the connection can be used again.
fn read(response: &IncomingResponse, deadline: &Pollable) -> Result<(), NoAnswer> {
    let status = response.status();
    let retry_after = response.headers().get("retry-after").into_iter().next();
    let retry_after = retry_after.and_then(|value| String::from_utf8(value).ok());
    let text = read_body(response, deadline);
    read_answer(status, retry_after.as_deref(), &text).map_err(|refusal| NoAnswer {
        reason: match &refusal {
            Refusal::Failed(reason) => Some(reason.clone()),
            _ => None,
        },
        refusal,
    })
}

/// As much of the body as comes in time and a problem may have.
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

/// What an error of the exchange means: whether the request can have reached the peer.
///
/// Only what every platform tells before it sends counts as not sent. A connection that took too
/// long is none of that: one platform says so of an answer that is late.
fn meaning(code: &ErrorCode) -> NoAnswer {
    let unavailable = |reason| {
        let refusal = Refusal::Unavailable {
            retry_after_seconds: DEFAULT_RETRY_SECONDS,
        };
        NoAnswer::new(refusal, reason)
    };
    let failed = |reason: &str| NoAnswer::new(Refusal::Failed(reason.into()), reason);
    match code {
        ErrorCode::DnsTimeout | ErrorCode::DnsError(_) => unavailable("its name does not resolve"),
        ErrorCode::DestinationNotFound
        | ErrorCode::DestinationUnavailable
        | ErrorCode::DestinationIpProhibited
        | ErrorCode::DestinationIpUnroutable => unavailable("there is no way to it"),
        ErrorCode::ConnectionRefused => unavailable("it refused the connection"),
        ErrorCode::ConnectionLimitReached => unavailable("there are too many connections"),
        ErrorCode::TlsCertificateError => unavailable("its certificate is not valid"),
        ErrorCode::HttpRequestDenied => failed("the platform does not allow requests to it"),
        ErrorCode::HttpRequestUriInvalid => failed("the platform does not take its URL"),
        ErrorCode::InternalError(Some(reason)) => NoAnswer::new(Refusal::Unknown, &**reason),
        _ => NoAnswer::lost("the connection was lost"),
    }
}
