//! What a server sent on a connection, read as HTTP/1.1 answers and as nothing else.
//!
//! Knows what this server may answer at all, and no reason to answer it: never reads a request.

use std::collections::BTreeMap;
use std::str;

use serde_json::Value;

/// The status codes that there may be. 408, 422 and 504 are not among them, since the sink is always
/// there and takes any event, and a body that does not come is one that ends; nor is 500.
const STATUSES: [u16; 12] = [100, 201, 400, 405, 409, 413, 414, 415, 431, 501, 503, 505];

/// What may be answered to a HEAD: what is no put is refused for its method or before.
const OF_ANY_METHOD: [u16; 7] = [400, 405, 413, 414, 431, 501, 505];

/// What leaves open where the next request begins, so that there is none.
const LAST: [u16; 4] = [414, 431, 501, 505];

/// The fields that there may be.
const FIELDS: [&str; 7] = [
    "accept-encoding",
    "allow",
    "connection",
    "content-length",
    "content-type",
    "date",
    "retry-after",
];

/// The members of a problem document.
const MEMBERS: [&str; 5] = ["detail", "retry", "status", "stored", "title"];

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The minor version of HTTP/1.
    pub minor_version: u8,
    /// The status code.
    pub status: u16,
    /// The detail of the problem, if there is one.
    pub detail: String,
    fields: BTreeMap<String, String>,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// Whether nothing may come after it.
    #[must_use]
    pub fn is_last(&self) -> bool {
        match self.minor_version {
            0 => self.field("connection") != Some("keep-alive"),
            _ => self.field("connection") == Some("close"),
        }
    }
}

/// The answers at the start of `bytes`, and what is left where one is cut off.
///
/// # Panics
///
/// When there is anything that is not an answer of this server.
#[must_use]
pub fn read(mut bytes: &[u8]) -> (Vec<Answer>, &[u8]) {
    let mut answers = Vec::new();
    while let Some((answer, rest)) = read_one(bytes) {
        answers.push(answer);
        bytes = rest;
    }
    (answers, bytes)
}

fn read_one(bytes: &[u8]) -> Option<(Answer, &[u8])> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(end) = end else {
        // What has begun like an answer may be one that is cut off.
        let begun = bytes.len().min("HTTP/1.".len());
        assert_eq!(bytes[..begun], b"HTTP/1."[..begun], "no status line");
        return None;
    };
    let head = str::from_utf8(&bytes[..end]).expect("the head of an answer is ASCII");
    let mut answer = read_head(head);
    let rest = &bytes[end + 4..];
    if answer.status == 100 {
        assert!(answer.fields.is_empty(), "an interim answer has fields");
        return Some((answer, rest));
    }
    let length = answer.field("content-length").expect("the length is there");
    let length: usize = length.parse().expect("the length is a number of bytes");
    // What answers a HEAD has the length of a body, and no body: no problem begins like an answer.
    let has_no_body = rest.is_empty() || rest.starts_with(b"H");
    if length > 0 && has_no_body && OF_ANY_METHOD.contains(&answer.status) {
        return Some((answer, rest));
    }
    let (body, rest) = rest.split_at_checked(length)?;
    answer.detail = check_body(&answer, body);
    Some((answer, rest))
}

/// # Panics
///
/// When it is no head of an answer: the server has sent it, so that is a finding, whatever it was sent.
fn read_head(head: &str) -> Answer {
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
    Answer {
        minor_version,
        status,
        detail: String::new(),
        fields,
    }
}

/// Holds that the body and the fields are what belongs to the status, and returns the detail.
fn check_body(answer: &Answer, body: &[u8]) -> String {
    // RFC 9110, section 6.6.1, asks for it up to 4xx, and only hyper has it.
    assert!(
        answer.field("date").is_some() || answer.status == 505,
        "no date: {answer:?}"
    );
    let is_for_status = |name, status| answer.field(name).is_some() == (answer.status == status);
    assert!(is_for_status("accept-encoding", 415), "{answer:?}");
    assert!(is_for_status("allow", 405), "{answer:?}");
    assert!(is_for_status("retry-after", 503), "{answer:?}");
    if body.is_empty() {
        assert_eq!(answer.status, 201, "no problem document: {answer:?}");
        assert_eq!(answer.field("content-type"), None);
        return String::new();
    }
    assert_ne!(answer.status, 201, "a success has no body");
    assert!(
        !LAST.contains(&answer.status) || answer.is_last(),
        "{answer:?}"
    );
    assert_eq!(
        answer.field("content-type"),
        Some("application/problem+json")
    );
    let problem: Value = serde_json::from_slice(body).expect("a problem is JSON");
    let members = problem.as_object().expect("a problem is an object");
    assert!(
        members.keys().eq(MEMBERS),
        "not the members of a problem: {problem}"
    );
    assert_eq!(problem["status"].as_u64(), Some(u64::from(answer.status)));
    assert!(
        problem["title"].is_string() && problem["retry"].is_boolean(),
        "{problem}"
    );
    // The sink always says what it did.
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

    fn answer(status_line: &str, fields: &str, body: &str) -> String {
        let length = body.len();
        format!("{status_line}\r\ncontent-length: {length}\r\n{fields}{DATE}\r\n{body}")
    }

    fn created() -> String {
        answer("HTTP/1.1 201 Created", "", "")
    }

    fn problem(status: &str, fields: &str) -> String {
        let code = &status[..3];
        let body = format!(
            "{{\"title\":\"T\",\"status\":{code},\"detail\":\"D.\",\"stored\":\"no\",\"retry\":false}}"
        );
        let fields = format!("content-type: application/problem+json\r\n{fields}");
        answer(&format!("HTTP/1.1 {status}"), &fields, &body)
    }

    fn method_not_allowed() -> String {
        problem("405 Method Not Allowed", "allow: POST\r\n")
    }

    #[test]
    fn answers_are_read_one_after_the_other() {
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
        let (answers, rest) = read(sent.as_bytes());
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [100, 201, 409, 405, 405, 503, 400]);
        assert_eq!(rest, b"");
        assert_eq!(answers[2].detail, "D.");
        assert!(answers[6].is_last() && answers[6].minor_version == 0);
    }

    #[test]
    fn what_is_cut_off_is_left() {
        let conflict = problem("409 Conflict", "");
        for cut in 1..conflict.len() {
            let sent = [&created(), &conflict[..cut]].concat();
            let (answers, rest) = read(sent.as_bytes());
            assert_eq!((answers.len(), rest.len()), (1, cut));
        }
    }

    #[test]
    fn what_is_no_answer_is_found() {
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
            answer("HTTP/1.1 400 Bad Request", "", ""),
            answer("HTTP/1.1 400 Bad Request", "connection: close\r\n", ""),
            answer("HTTP/1.1 409 Conflict", "", ""),
            conflict.replace("\"status\":409", "\"status\":400"),
            conflict.replace("\"T\"", "1.00"),
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
