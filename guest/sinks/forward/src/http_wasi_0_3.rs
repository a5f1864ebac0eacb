//! One put to one peer over `wasi:http` 0.3: a request, its body and the response, within one time-out.
//!
//! Does not retry. While it waits, other puts of the instance go on.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;
use core::pin::{Pin, pin};

use alldata_peer_protocol::client::{MAX_PROBLEM_BYTES, PUT_BODY_END, PeerError, put_body_start};
use futures_util::future::{Either, select};
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::client::send;
use wasip3::http::types::{Fields, Method, Request, RequestOptions, Response, Scheme};
use wasip3::wit_bindgen::{StreamReader, StreamResult, StreamWriter};
use wasip3::{wit_future, wit_stream};

use crate::configuration::{Configuration, Peer};
use crate::failure::{PutFailure, classify_error, fields, read_result};

const NANOSECONDS_PER_MILLISECOND: u64 = 1_000_000;

/// Puts to `peer`.
pub(crate) async fn put(
    peer: &Peer,
    configuration: &Configuration,
    key: &str,
    event: &str,
) -> Result<(), PutFailure> {
    let timeout_ns = configuration.timeout_ms * NANOSECONDS_PER_MILLISECOND;
    // Whether the peer may have the complete body.
    let is_whole = Cell::new(false);
    let deadline = pin!(wait_for(timeout_ns));
    let exchange = exchange(peer, configuration, key, event, &is_whole, deadline);
    exchange.await.map_err(|failure| match is_whole.get() {
        true => failure,
        // No peer stores an incomplete body.
        false => failure.not_stored(),
    })
}

async fn exchange(
    peer: &Peer,
    configuration: &Configuration,
    key: &str,
    event: &str,
    is_whole: &Cell<bool>,
    mut deadline: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), PutFailure> {
    let head = put_body_start(key);
    let parts = [&head, event, PUT_BODY_END].map(str::as_bytes);
    let length = parts.iter().map(|part| part.len()).sum();
    let (writer, reader) = wit_stream::new();
    let request = request(peer, configuration, length, reader)
        .map_err(|reason| PutFailure::new(PeerError::Failed(reason.clone()), reason))?;
    let sending = pin!(write(writer, parts, is_whole));
    // A body that is not sent to its end is no error yet: the response may come before.
    let response = async {
        match select(pin!(send(request)), sending).await {
            Either::Left((response, _)) => response,
            Either::Right(((), response)) => response.await,
        }
    };
    let response = match select(pin!(response), deadline.as_mut()).await {
        Either::Left((response, _)) => response,
        Either::Right(((), _)) => return Err(PutFailure::lost("no answer in time")),
    };
    let response = response.map_err(|code| classify_error(&code))?;
    let status = response.get_status_code();
    let retry_after = response.get_headers().get("retry-after").into_iter().next();
    let mut text = Vec::new();
    // The status counts though the rest of the body does not come.
    select(pin!(read_body(response, &mut text)), deadline).await;
    read_result(status, retry_after, &text)
}

/// The request. The error is a sentence that names the part that the platform refused.
fn request(
    peer: &Peer,
    configuration: &Configuration,
    length: usize,
    body: StreamReader<u8>,
) -> Result<Request, String> {
    let refused = |part: &str| format!("{}: the platform does not take its {part}", peer.name);
    let fields = fields(configuration.token.as_deref(), length);
    let fields = Fields::from_list(&fields).map_err(|_| refused("header fields"))?;
    let options = RequestOptions::new();
    // Shorter than the time-out, so that a platform that honours it can report that nothing was sent.
    let timeout_ns = configuration.timeout_ms * NANOSECONDS_PER_MILLISECOND;
    let _ = options.set_connect_timeout(Some(timeout_ns / 8 * 7));
    let (complete, trailers) = wit_future::new(|| Ok(None));
    drop(complete);
    let (request, _transmitted) = Request::new(fields, Some(body), trailers, Some(options));
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

/// Sends the body, as far as it is read.
async fn write(mut writer: StreamWriter<u8>, parts: [&[u8]; 3], is_whole: &Cell<bool>) {
    let [head, event, end] = parts;
    for part in [head, event] {
        if !writer.write_all(part.to_vec()).await.is_empty() {
            return;
        }
    }
    // From here on the peer may have the complete body.
    is_whole.set(true);
    writer.write_all(end.to_vec()).await;
}

/// Appends the body, up to the size of a problem.
async fn read_body(response: Response, text: &mut Vec<u8>) {
    let (_, processed) = wit_future::new(|| Ok(()));
    let (mut stream, _trailers) = Response::consume_body(response, processed);
    while text.len() < MAX_PROBLEM_BYTES {
        let rest = Vec::with_capacity(MAX_PROBLEM_BYTES - text.len());
        let (result, chunk) = stream.read(rest).await;
        text.extend_from_slice(&chunk);
        if !matches!(result, StreamResult::Complete(_)) {
            break;
        }
    }
}
