//! Parses the bytes that a server sent on a connection as HTTP/1.1 responses.
//!
//! Knows the responses that this server may send; does not parse requests.

use std::collections::BTreeMap;
use std::str;

use serde_json::Value;

/// The status codes that are allowed. Not 422 and 504, since the sink is always available and accepts any event,
/// nor 408, since a body that does not arrive ends, nor 500.
const STATUSES: [u16; 12] = [100, 201, 400, 405, 409, 413, 414, 415, 431, 501, 503, 505];

/// The status codes of a response to HEAD: the request is refused for its method or before.
const OF_ANY_METHOD: [u16; 7] = [400, 405, 413, 414, 431, 501, 505];

/// The status codes after which no request follows, since its start is unknown.
const LAST: [u16; 4] = [414, 431, 501, 505];

/// The header fields that are allowed.
const FIELDS: [&str; 8] = [
    "accept-encoding",
    "allow",
    "connection",
    "content-length",
    "content-type",
    "date",
    "retry-after",
    "x-request-id",
];

/// The members of a problem document.
const MEMBERS: [&str; 6] = ["detail", "request_id", "retry", "status", "stored", "title"];

/// A response.
#[derive(Debug)]
pub struct Response {
    /// The minor version of HTTP/1.
    pub minor_version: u8,
    /// The status code.
    pub status: u16,
    /// The detail of the problem, if there is one.
    pub detail: String,
    fields: BTreeMap<String, String>,
}

impl Response {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// Whether it must be the last response.
    #[must_use]
    pub fn is_last(&self) -> bool {
        match self.minor_version {
            0 => self.field("connection") != Some("keep-alive"),
            _ => self.field("connection") == Some("close"),
        }
    }
}

/// The responses at the start of `bytes`, and the rest if one is incomplete.
///
/// # Panics
///
/// If there are bytes that are not a response of this server.
#[must_use]
pub fn read(mut bytes: &[u8]) -> (Vec<Response>, &[u8]) {
    let mut responses = Vec::new();
    while let Some((response, rest)) = read_one(bytes) {
        responses.push(response);
        bytes = rest;
    }
    (responses, bytes)
}

fn read_one(bytes: &[u8]) -> Option<(Response, &[u8])> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(end) = end else {
        // A response that is incomplete may have been cut off.
        let begun = bytes.len().min("HTTP/1.".len());
        assert_eq!(bytes[..begun], b"HTTP/1."[..begun], "no status line");
        return None;
    };
    let head = str::from_utf8(&bytes[..end]).expect("the head of an response is ASCII");
    let mut response = read_head(head);
    let rest = &bytes[end + 4..];
    if response.status == 100 {
        assert!(response.fields.is_empty(), "an interim response has fields");
        return Some((response, rest));
    }
    let length = response
        .field("content-length")
        .expect("the length is there");
    let length: usize = length.parse().expect("the length is a number of bytes");
    // A response to HEAD has the length of a body, and no body: no problem begins like a response.
    let has_no_body = rest.is_empty() || rest.starts_with(b"H");
    if length > 0 && has_no_body && OF_ANY_METHOD.contains(&response.status) {
        return Some((response, rest));
    }
    let (body, rest) = rest.split_at_checked(length)?;
    response.detail = check_body(&response, body);
    Some((response, rest))
}

/// # Panics
///
/// If it is not the header section of a response.
fn read_head(head: &str) -> Response {
    let mut lines = head.split("\r\n");
    let status_line = lines.next().expect("splitting gives at least one part");
    let (version, status_and_phrase) = status_line.split_once(' ').expect("is a status line");
    let minor_version = match version {
        "HTTP/1.0" => 0,
        "HTTP/1.1" => 1,
        _ => panic!("no version of HTTP: {status_line:?}"),
    };
    let (status, phrase) = status_and_phrase.split_once(' ').expect("has a phrase");
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphabetic());
    assert!(phrase.split(' ').all(is_word), "no phrase: {status_line:?}");
    let status = status.parse().expect("the status is a number");
    assert!(
        STATUSES.contains(&status),
        "not to be answered: {status_line:?}"
    );
    let mut fields = BTreeMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").expect("a field has a colon");
        assert!(FIELDS.contains(&name), "an unknown field: {line:?}");
        let is_printable = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        assert!(is_printable && value == value.trim(), "no value: {line:?}");
        let before = fields.insert(name.to_owned(), value.to_owned());
        assert_eq!(before, None, "a field is there twice: {line:?}");
    }
    Response {
        minor_version,
        status,
        detail: String::new(),
        fields,
    }
}

/// Asserts that body and header fields are those of the status, and returns the detail.
fn check_body(response: &Response, body: &[u8]) -> String {
    // RFC 9110, section 6.6.1, requires `Date` up to 4xx, and hyper adds it.
    assert!(
        response.field("date").is_some() || response.status == 505,
        "no date: {response:?}"
    );
    let is_for_status =
        |name, status| response.field(name).is_some() == (response.status == status);
    assert!(is_for_status("accept-encoding", 415), "{response:?}");
    assert!(is_for_status("allow", 405), "{response:?}");
    assert!(is_for_status("retry-after", 503), "{response:?}");
    if body.is_empty() {
        assert_eq!(response.status, 201, "no problem document: {response:?}");
        assert_eq!(response.field("content-type"), None);
        return String::new();
    }
    assert_ne!(response.status, 201, "a success has no body");
    assert!(
        !LAST.contains(&response.status) || response.is_last(),
        "{response:?}"
    );
    assert_eq!(
        response.field("content-type"),
        Some("application/problem+json")
    );
    let problem: Value = serde_json::from_slice(body).expect("a problem is JSON");
    let members = problem.as_object().expect("a problem is an object");
    assert!(
        members.keys().eq(MEMBERS),
        "not the members of a problem: {problem}"
    );
    assert_eq!(problem["status"].as_u64(), Some(u64::from(response.status)));
    assert!(
        problem["title"].is_string() && problem["retry"].is_boolean(),
        "{problem}"
    );
    assert_eq!(
        problem["request_id"].as_str(),
        response.field("x-request-id")
    );
    // The sink always reports the outcome.
    assert_eq!(problem["stored"], "no", "{problem}");
    let detail = problem["detail"].as_str().expect("the detail is a text");
    assert!(detail.ends_with('.'), "no sentence: {problem}");
    detail.to_owned()
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::read;

    const DATE: &str = "date: Mon, 23 Nov 2026 15:26:25 GMT\r\n";

    fn response(status_line: &str, fields: &str, body: &str) -> String {
        let length = body.len();
        format!("{status_line}\r\ncontent-length: {length}\r\n{fields}{DATE}\r\n{body}")
    }

    fn created() -> String {
        response("HTTP/1.1 201 Created", "", "")
    }

    fn problem(status: &str, fields: &str) -> String {
        let code = &status[..3];
        let body = format!(
            "{{\"title\":\"T\",\"status\":{code},\"detail\":\"D.\",\"stored\":\"no\",\"retry\":false,\"request_id\":\"1f\"}}"
        );
        let media_type = "content-type: application/problem+json\r\n";
        let fields = format!("{media_type}x-request-id: 1f\r\n{fields}");
        response(&format!("HTTP/1.1 {status}"), &fields, &body)
    }

    fn method_not_allowed() -> String {
        problem("405 Method Not Allowed", "allow: POST\r\n")
    }

    #[test]
    fn consecutive_responses_are_read() {
        let refused = method_not_allowed();
        let (head, _) = refused.split_once('{').expect("has a body");
        let sent = [
            "HTTP/1.1 100 Continue\r\n\r\n",
            &created(),
            &problem("409 Conflict", ""),
            head,
            &refused,
            &problem("503 Service Unavailable", "retry-after: 60\r\n"),
            &problem("400 Bad Request", "connection: close\r\n").replace("HTTP/1.1", "HTTP/1.0"),
        ];
        let sent = sent.concat();
        let (responses, rest) = read(sent.as_bytes());
        let statuses: Vec<u16> = responses.iter().map(|response| response.status).collect();
        assert_eq!(statuses, [100, 201, 409, 405, 405, 503, 400]);
        assert_eq!(rest, b"");
        assert_eq!(responses[2].detail, "D.");
        assert!(responses[6].is_last() && responses[6].minor_version == 0);
    }

    #[test]
    fn incomplete_response_is_left() {
        let conflict = problem("409 Conflict", "");
        for cut in 1..conflict.len() {
            let sent = [&created(), &conflict[..cut]].concat();
            let (responses, rest) = read(sent.as_bytes());
            assert_eq!((responses.len(), rest.len()), (1, cut));
        }
    }

    #[test]
    fn invalid_response_is_found() {
        let conflict = problem("409 Conflict", "");
        for bad in [
            "garbage".to_owned(),
            created() + "garbage",
            created().replace("HTTP/1.1", "HTTP/2.0"),
            created().replace(" Created", ""),
            created().replace("201 Created", "200 OK"),
            problem("500 Internal Server Error", ""),
            created().replace("content-length: 0\r\n", ""),
            created().replace("content-length: 0", "content-length: 1") + "x",
            created().replace("content-length: 0", "content-length: -1"),
            created().replace("date", "x-date"),
            created().replace(DATE, ""),
            created().replace(DATE, &DATE.repeat(2)),
            created().replace("date: ", "date:"),
            response("HTTP/1.1 400 Bad Request", "", ""),
            response("HTTP/1.1 400 Bad Request", "connection: close\r\n", ""),
            response("HTTP/1.1 409 Conflict", "", ""),
            conflict.replace("\"status\":409", "\"status\":400"),
            conflict.replace("\"T\"", "1.00"),
            conflict.replace("\"1f\"", "\"2f\""),
            conflict.replace("\"no\"", "\"on\""),
            conflict.replace("\"D.\"", "\"D \""),
            conflict.replace("{\"title\"", "[\"title\""),
            conflict.replace("\"title\"", "\"tidle\""),
            conflict.replace("problem+json", "problem+JSON"),
            problem("405 Method Not Allowed", ""),
            problem("414 URI Too Long", ""),
            problem("501 Not Implemented", ""),
            problem("503 Service Unavailable", ""),
        ] {
            let found = catch_unwind(|| read(bad.as_bytes()).0.len());
            found.expect_err(&bad);
        }
    }
}
