//! The response to bytes that hyper cannot parse as a request. hyper's own response has a status code, but
//! no problem document.

use alldata_peer_protocol::outcome::{InvalidRequest, Outcome, PROBLEM_MEDIA_TYPE};

use crate::limits::Limits;
use crate::server::problem_id;
use crate::util::request_id::RequestId;

/// The size in bytes from which hyper refuses a field name.
const MAX_NAME_BYTES: usize = 64 * 1024;

/// The connection preface of HTTP/2 with prior knowledge (RFC 9113, sections 3.3 and 3.4).
const HTTP_2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The status code and the bytes of the response. `None` if none is due: hyper has made no response, and
/// the client does not speak HTTP/2. `id` is that of the request, `unread` are the bytes that hyper has read after the last request and
/// the empty lines before the next; `has_started` is whether a request had started.
pub(crate) fn response(
    withheld: &[u8],
    unread: &[u8],
    has_started: bool,
    limits: &Limits,
    id: RequestId,
) -> Option<(u16, Vec<u8>)> {
    let status = withheld.get("HTTP/1.1 ".len().."HTTP/1.1 400".len());
    let outcome = match status {
        Some(b"431") if unread.is_empty() && !has_started => {
            Outcome::InvalidRequest(InvalidRequest::HeaderFieldsTooLarge)
        }
        Some(b"431") => too_large(unread, limits),
        Some(b"400") if has_other_version(unread) => {
            Outcome::InvalidRequest(InvalidRequest::Version)
        }
        Some(b"414") => Outcome::InvalidRequest(InvalidRequest::UriTooLong),
        Some(_) => Outcome::InvalidRequest(InvalidRequest::Syntax),
        None if unread.starts_with(HTTP_2_PREFACE) => {
            Outcome::InvalidRequest(InvalidRequest::Version)
        }
        None => return None,
    };
    // hyper caches the date, so it is copied from its response.
    let date = std::str::from_utf8(withheld).unwrap_or_default();
    let date = date.lines().find(|line| line.starts_with("date: "));
    let date = date.map_or_else(String::new, |date| format!("{date}\r\n"));
    Some(encode(&outcome, id, &date, unread.starts_with(b"HEAD ")))
}

/// The status code and the bytes of the last response of a connection. `date` is a header field, or empty.
pub(crate) fn encode(
    outcome: &Outcome,
    id: RequestId,
    date: &str,
    is_head: bool,
) -> (u16, Vec<u8>) {
    let response = outcome.response();
    let mut problem = response.body();
    problem_id::add_member(&mut problem, id);
    let field = problem_id::X_REQUEST_ID;
    let (status, title) = (response.status, response.problem.map_or("", |it| it.title));
    let bytes = problem.len();
    let head = format!(
        "HTTP/1.1 {status} {title}\r\ncontent-type: {PROBLEM_MEDIA_TYPE}\r\nconnection: close\r\n\
         {field}: {id}\r\ncontent-length: {bytes}\r\n{date}\r\n"
    );
    let problem = if is_head { String::new() } else { problem };
    (status, (head + &problem).into_bytes())
}

/// Whether a request line has a major version other than 1, or may have one once it is complete: hyper
/// refuses it at the first digit.
fn has_other_version(unread: &[u8]) -> bool {
    let is_empty_line = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let start = unread.iter().position(|byte| !is_empty_line(byte));
    let rest = &unread[start.unwrap_or(unread.len())..];
    let end = rest.iter().position(is_empty_line);
    let mut parts = rest[..end.unwrap_or(rest.len())].split(|byte| *byte == b' ');
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    let (Some(_), Some(_), Some(version), None) = (method, target, version, parts.next()) else {
        return false;
    };
    match version.strip_prefix(b"HTTP/") {
        Some([b'1', ..]) => false,
        Some([b'0'..=b'9', b'.', b'0'..=b'9']) => true,
        Some([b'0'..=b'9'] | [b'0'..=b'9', b'.']) => end.is_none(),
        _ => false,
    }
}

/// The outcome of a request that is too large. hyper leaves a header section unread that exceeds a limit;
/// if it does not, the length of the body exceeds the range of numbers.
fn too_large(unread: &[u8], limits: &Limits) -> Outcome {
    let (max_bytes, max_headers) = (limits.max_header_bytes as usize, limits.max_headers);
    let exceeds_size = unread.len() >= max_bytes;
    let mut lines = unread.split_inclusive(|byte| *byte == b'\n');
    let request_line = lines.next().unwrap_or_default();
    if exceeds_size && request_line.len() >= max_bytes {
        return Outcome::InvalidRequest(InvalidRequest::UriTooLong);
    }
    let has_end = |line: &&[u8]| !matches!(line, [b'\n'] | [b'\r', b'\n']);
    let fields = lines.take_while(has_end);
    let (number, bytes) = fields.fold((0, request_line.len()), |(number, bytes), field| {
        (number + 1, bytes + field.len())
    });
    let name_bytes = |field: &[u8]| field.iter().position(|byte| *byte == b':');
    let has_long_name = unread
        .split(|byte| *byte == b'\n')
        .any(|field| name_bytes(field) >= Some(MAX_NAME_BYTES));
    // Including the empty line at the end.
    if has_long_name || number > max_headers || bytes + b"\r\n".len() > max_bytes {
        return Outcome::InvalidRequest(InvalidRequest::HeaderFieldsTooLarge);
    }
    Outcome::ContentTooLarge {
        limit: Some(limits.max_body_bytes.min(limits.max_buffered_bytes)),
    }
}
