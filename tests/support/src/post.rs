//! Requests to send: `POST` with any target, fields and body.

use std::net::SocketAddr;

use super::{Answer, Connection};

/// A builder of `POST` requests. The body has a `Content-Length` unless chunks are set.
#[derive(Debug, Clone)]
pub struct Post {
    method: String,
    target: String,
    version: String,
    headers: Vec<String>,
    /// The body with its framing, or without framing if it has a `Content-Length`.
    body: Vec<u8>,
    framed: bool,
}

impl Post {
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self {
            method: "POST".to_owned(),
            target: "/_put".to_owned(),
            version: "HTTP/1.1".to_owned(),
            headers: vec!["Host: peer".to_owned()],
            body: body.into(),
            framed: false,
        }
    }

    /// A `_put` of a key, escaped as in a JSON string, and the text of an event.
    pub fn put(key: &str, event: &str) -> Self {
        Self::new(format!("{{\"key\":\"{key}\",\"event\":{event}}}"))
    }

    pub fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    pub fn target(mut self, target: &str) -> Self {
        target.clone_into(&mut self.target);
        self
    }

    /// Replaces the `Host`, which comes first.
    pub fn host(mut self, host: &str) -> Self {
        self.headers[0] = format!("Host: {host}");
        self
    }

    /// HTTP/1.0, without a `Host`.
    pub fn http10(mut self) -> Self {
        "HTTP/1.0".clone_into(&mut self.version);
        self.headers.clear();
        self
    }

    pub fn header(mut self, field: &str) -> Self {
        self.headers.push(field.to_owned());
        self
    }

    /// Sends these parts as the chunks of the body.
    pub fn chunks(parts: &[&[u8]]) -> Self {
        let mut post = Self::new(chunked(parts)).header("Transfer-Encoding: chunked");
        post.framed = true;
        post
    }

    /// The request line and the header section.
    pub fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} {}\r\n", self.method, self.target, self.version);
        for field in &self.headers {
            head += &format!("{field}\r\n");
        }
        if !self.framed {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        (head + "\r\n").into_bytes()
    }

    /// The size of the body in bytes.
    pub fn body_len(&self) -> usize {
        self.body.len()
    }

    /// The whole request.
    pub fn bytes(&self) -> Vec<u8> {
        [self.head(), self.body.clone()].concat()
    }

    /// Sends the request on a new connection.
    pub fn send_to(&self, address: SocketAddr) -> Answer {
        Connection::open(address).send(self.bytes()).answer()
    }
}

/// A body in chunked encoding, with its last chunk.
pub fn chunked(parts: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        body.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        body.extend_from_slice(part);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    body
}
