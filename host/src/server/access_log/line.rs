//! A line of the access log, as JSON.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use hyper::Method;
use serde::Serialize;

use crate::util::identity::Identity;
use crate::util::request_id::RequestId;

/// The most bytes of a path that are logged. Longer ones are cut off.
const MAX_PATH_BYTES: usize = 1024;

/// The most bytes of a method that are logged. Longer ones are cut off; the longest that is registered has 17.
const MAX_METHOD_BYTES: usize = 32;

/// The last second that can be formatted, that of the year 9999. A clock may be wrong.
const MAX_TIME: Duration = Duration::from_secs(253_402_300_799);

/// The line of one request.
pub(crate) struct Line {
    /// When it began.
    pub(crate) time: SystemTime,
    pub(crate) request_id: RequestId,
    /// The address of the client, if it has one.
    pub(crate) address: Option<IpAddr>,
    pub(crate) client: Option<Identity>,
    /// `None` for bytes that are not a request.
    pub(crate) request: Option<RequestLine>,
    /// `None` if the connection has ended before the response.
    pub(crate) status: Option<u16>,
    /// The bytes of the body that were received.
    pub(crate) body_bytes: u64,
    pub(crate) duration: Duration,
}

/// The method of a request, and its path without the query, which may have a secret.
pub(crate) struct RequestLine {
    method: Method,
    path: Box<str>,
}

/// The members of a line.
#[derive(Serialize)]
struct Members<'a> {
    time: String,
    request_id: String,
    address: Option<IpAddr>,
    client: Option<&'a str>,
    method: Option<&'a str>,
    path: Option<&'a str>,
    status: Option<u16>,
    body_bytes: u64,
    duration_seconds: f64,
}

impl RequestLine {
    pub(crate) fn new(method: &Method, path: &str) -> Self {
        Self {
            method: cut_off(method),
            path: path[..path.floor_char_boundary(MAX_PATH_BYTES)].into(),
        }
    }
}

/// The method, or its beginning.
fn cut_off(method: &Method) -> Method {
    let beginning = method.as_str().as_bytes().get(..MAX_METHOD_BYTES);
    // The beginning of a token is one.
    let beginning = beginning.and_then(|bytes| Method::from_bytes(bytes).ok());
    beginning.unwrap_or_else(|| method.clone())
}

impl Line {
    /// Appends the line with its end.
    pub(crate) fn write_to(&self, buffer: &mut Vec<u8>) {
        let request = self.request.as_ref();
        let time = self
            .time
            .clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + MAX_TIME);
        let members = Members {
            time: humantime::format_rfc3339_micros(time).to_string(),
            request_id: self.request_id.to_string(),
            address: self.address,
            client: self.client.as_ref().map(Identity::name),
            method: request.map(|request| request.method.as_str()),
            path: request.map(|request| &*request.path),
            status: self.status,
            body_bytes: self.body_bytes,
            duration_seconds: self.duration.as_secs_f64(),
        };
        let length = buffer.len();
        // None of the members fails.
        if serde_json::to_writer(&mut *buffer, &members).is_err() {
            buffer.truncate(length);
            return;
        }
        buffer.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use hyper::Method;

    use super::{Line, MAX_METHOD_BYTES, MAX_PATH_BYTES, RequestLine};
    use crate::util::identity::Identity;
    use crate::util::request_id::RequestId;

    #[test]
    fn line_is_json_without_line_breaks_of_its_values() {
        let line = Line {
            time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_500_000),
            request_id: RequestId::random(),
            address: Some("192.0.2.1".parse().expect("is one")),
            client: Some(Identity::new("a\n\"b\"\u{1b}")),
            request: Some(RequestLine::new(&Method::POST, "/_put")),
            status: None,
            body_bytes: 7,
            duration: Duration::from_micros(250),
        };
        let mut buffer = b"before\n".to_vec();
        line.write_to(&mut buffer);
        let text = String::from_utf8(buffer).expect("is text");
        let (before, text) = text.split_once('\n').expect("has lines");
        assert_eq!(before, "before");
        let id = line.request_id;
        let expected = format!(
            "{{\"time\":\"1970-01-01T00:00:01.500000Z\",\"request_id\":\"{id}\",\
             \"address\":\"192.0.2.1\",\"client\":\"a\\n\\\"b\\\"\\u001b\",\"method\":\"POST\",\
             \"path\":\"/_put\",\"status\":null,\"body_bytes\":7,\"duration_seconds\":0.00025}}\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn long_path_is_cut_off_between_characters() {
        let path = format!("/{}", "\u{e9}".repeat(MAX_PATH_BYTES));
        let request = RequestLine::new(&Method::POST, &path);
        assert_eq!(request.path.len(), MAX_PATH_BYTES - 1);
    }

    #[test]
    fn long_method_is_cut_off() {
        let method = "M".repeat(30_000).parse().expect("is one");
        let request = RequestLine::new(&method, "/");
        assert_eq!(request.method.as_str().len(), MAX_METHOD_BYTES);
        let request = RequestLine::new(&Method::DELETE, "/");
        assert_eq!(request.method, Method::DELETE);
    }
}
