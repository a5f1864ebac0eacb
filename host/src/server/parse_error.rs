//! The response to bytes that hyper cannot parse as a request. hyper's own has a status code and no reason.

use alldata_peer_protocol::outcome::{InvalidRequest, Outcome, PROBLEM_MEDIA_TYPE};

use crate::limits::Limits;

/// The size in bytes from which hyper refuses the name of a field.
const MAX_NAME_BYTES: usize = 64 * 1024;

/// How a client of HTTP/2 begins that asks nobody first (RFC 9113, section 3.4).
const HTTP_2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The status code, and the answer as it is sent, where there has to be one: hyper's own was withheld, or there is none
/// since the client speaks HTTP/2. `unread` is what hyper has read, and not taken for a request or for
/// empty lines before one, and `has_started` whether there was anything but those.
pub(crate) fn response(
    withheld: &[u8],
    unread: &[u8],
    has_started: bool,
    limits: &Limits,
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
    let answer = outcome.response();
    let problem = answer.body();
    let (status, title) = (answer.status, answer.problem.map_or("", |it| it.title));
    let bytes = problem.len();
    // Only hyper knows the time without looking.
    let date = std::str::from_utf8(withheld).unwrap_or_default();
    let date = date.lines().find(|line| line.starts_with("date: "));
    let date = date.map_or_else(String::new, |date| format!("{date}\r\n"));
    let head = format!(
        "HTTP/1.1 {status} {title}\r\ncontent-type: {PROBLEM_MEDIA_TYPE}\r\nconnection: close\r\n\
         content-length: {bytes}\r\n{date}\r\n"
    );
    let is_head = unread.starts_with(b"HEAD ");
    let problem = if is_head { String::new() } else { problem };
    Some((status, (head + &problem).into_bytes()))
}

/// Whether a request line has another major version than 1, or may have once it is whole: hyper refuses
/// it at the first digit.
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

/// What is larger than it may be. hyper leaves a head unread that is, and a head that is not has a
/// length of its body that is beyond all numbers.
fn too_large(unread: &[u8], limits: &Limits) -> Outcome {
    let (max_bytes, max_headers) = (limits.max_header_bytes as usize, limits.max_headers);
    let is_over = unread.len() >= max_bytes;
    let mut lines = unread.split_inclusive(|byte| *byte == b'\n');
    let request_line = lines.next().unwrap_or_default();
    if is_over && request_line.len() >= max_bytes {
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
    // With the empty line at the end.
    if has_long_name || number > max_headers || bytes + b"\r\n".len() > max_bytes {
        return Outcome::InvalidRequest(InvalidRequest::HeaderFieldsTooLarge);
    }
    Outcome::ContentTooLarge {
        limit: Some(limits.max_body_bytes.min(limits.max_buffered_bytes)),
    }
}
