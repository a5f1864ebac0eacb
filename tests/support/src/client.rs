//! A client that sends exactly the given bytes, and parses responses strictly.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{DEADLINE, Post};

/// A connection whose reads and writes have a deadline; `None` if it is refused.
pub fn try_connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).ok()?;
    stream
        .set_read_timeout(Some(DEADLINE))
        .expect("sets an option");
    stream
        .set_write_timeout(Some(DEADLINE))
        .expect("sets an option");
    Some(stream)
}

/// A connection to a server.
pub struct Connection(BufReader<Box<dyn ClientStream>>);

/// What a connection is on: a socket, or TLS on one. Its time-outs are [`DEADLINE`] unless set.
pub trait ClientStream: Read + Write + Send {
    /// Ends this side of the connection.
    fn finish(&mut self) -> io::Result<()>;

    fn set_read_timeout(&mut self, time: Duration) -> io::Result<()>;
}

impl ClientStream for TcpStream {
    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn set_read_timeout(&mut self, time: Duration) -> io::Result<()> {
        Self::set_read_timeout(self, Some(time))
    }
}

#[cfg(unix)]
impl ClientStream for UnixStream {
    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn set_read_timeout(&mut self, time: Duration) -> io::Result<()> {
        Self::set_read_timeout(self, Some(time))
    }
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).expect("connects")
    }

    /// Connects, unless the connection is refused.
    pub fn try_open(address: SocketAddr) -> Option<Self> {
        Self::try_socket(address).map(Self::on)
    }

    /// Connects to a Unix socket.
    #[cfg(unix)]
    pub fn open_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("connects");
        for timeout in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
            timeout(&stream, Some(DEADLINE)).expect("sets an option");
        }
        Self::on(stream)
    }

    /// A connection on another stream.
    pub fn on(stream: impl ClientStream + 'static) -> Self {
        Self(BufReader::new(Box::new(stream)))
    }

    /// A socket for a connection, unless it is refused.
    pub fn try_socket(address: SocketAddr) -> Option<TcpStream> {
        let stream = try_connect(address)?;
        stream.set_nodelay(true).expect("sets an option");
        Some(stream)
    }

    /// Sends bytes, in one packet if they fit.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.0.get_mut().write_all(bytes.as_ref()).expect("sends");
        self
    }

    /// Sends as much as the server accepts, which may have closed its side.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.0.get_mut().write_all(bytes.as_ref());
        self
    }

    /// Closes the sending side of the connection.
    pub fn finish(&mut self) -> &mut Self {
        self.0.get_mut().finish().expect("ends a side");
        self
    }

    /// Sends a whole request and reads its response.
    pub fn ask(&mut self, post: &Post) -> Answer {
        self.send(post.bytes()).answer()
    }

    /// Reads the next response, skipping `100 Continue`.
    pub fn answer(&mut self) -> Answer {
        loop {
            let answer = self.any_answer(false);
            if answer.status != 100 {
                return answer;
            }
        }
    }

    /// Reads the next response; `None` if the server closes the connection before it.
    pub fn answer_or_end(&mut self) -> Option<Answer> {
        match self.0.fill_buf() {
            Ok([]) => None,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            _ => Some(self.answer()),
        }
    }

    /// Reads the next response to a `HEAD`, which has no body.
    pub fn answer_to_head(&mut self) -> Answer {
        self.any_answer(true)
    }

    /// Reads the next response, possibly an interim one.
    pub fn any_answer(&mut self, to_head: bool) -> Answer {
        let status_line = self.line();
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {status_line:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(':') else {
                assert_eq!(line, "", "a field without a colon");
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
            request_id: None,
        };
        if !to_head && status != 100 {
            let length = answer
                .header("content-length")
                .expect("has a Content-Length");
            let mut body = vec![0; length.parse().expect("a number of bytes")];
            self.0.read_exact(&mut body).expect("reads the whole body");
            answer.body = body;
        }
        answer.take_request_id();
        answer
    }

    /// Waits until the server has closed the connection, and returns the remaining bytes.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the server did not close the connection: {error}"),
        }
        rest
    }

    /// Whether the server sends nothing for this long, and keeps the connection open.
    pub fn is_quiet_for(&mut self, time: Duration) -> bool {
        self.0
            .get_mut()
            .set_read_timeout(time)
            .expect("sets an option");
        let read = self.0.fill_buf().map(<[u8]>::len);
        self.0
            .get_mut()
            .set_read_timeout(DEADLINE)
            .expect("sets an option");
        matches!(read, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("reads a line");
        assert!(
            line.ends_with("\r\n"),
            "the answer ends within a line: {line:?}"
        );
        line.truncate(line.len() - 2);
        line
    }
}

/// A response. The id of its request, which no other response has, is neither in its fields nor in its body.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names are in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub request_id: Option<String>,
}

/// Ids do not count.
impl PartialEq for Answer {
    fn eq(&self, other: &Self) -> bool {
        let parts = |answer: &Self| (answer.status, answer.headers.clone(), answer.body.clone());
        parts(self) == parts(other)
    }
}

impl Answer {
    /// Moves the id out of the fields and the body.
    pub(crate) fn take_request_id(&mut self) {
        let Some(id) = self.header("x-request-id").map(str::to_owned) else {
            return;
        };
        self.headers.retain(|(name, _)| name != "x-request-id");
        let member = format!(",\"request_id\":\"{id}\"}}");
        // Not in the response to `HEAD`.
        if self.body.ends_with(member.as_bytes()) {
            self.body.truncate(self.body.len() - member.len());
            self.body.push(b'}');
        }
        self.request_id = Some(id);
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(field, _)| field == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert_eq!(values.next(), None, "{name} is there twice");
        value
    }

    /// Asserts that this is the 201 of the protocol.
    #[track_caller]
    pub fn assert_created(&self) {
        assert_eq!(self.status, 201, "{}", self.text());
        assert_eq!(self.header("content-length"), Some("0"));
        assert_eq!(self.text(), "");
    }

    /// Asserts that this is a problem document (RFC 9457) with this status, and returns it.
    #[track_caller]
    pub fn assert_problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        let problem: Value = serde_json::from_slice(&self.body).expect("is JSON");
        assert_eq!(problem["status"], status);
        assert!(
            problem["title"].is_string() && problem["detail"].is_string(),
            "{problem}"
        );
        assert!(
            problem["stored"].is_string() && problem["retry"].is_boolean(),
            "{problem}"
        );
        problem
    }

    /// The `detail` of a problem document with this status.
    #[track_caller]
    pub fn detail(&self, status: u16) -> String {
        let problem = self.assert_problem(status);
        problem["detail"].as_str().expect("is a string").to_owned()
    }

    /// Asserts that this is exactly this problem document, and returns its `detail`.
    #[track_caller]
    pub fn assert_is(&self, status: u16, title: &str, stored: &str, retry: bool) -> String {
        let mut problem = self.assert_problem(status);
        let detail = problem["detail"].take();
        let detail = detail.as_str().expect("is a string");
        let rest = json!({"title": title, "status": status, "detail": Value::Null,
            "stored": stored, "retry": retry});
        assert_eq!(problem, rest);
        let opens = detail.chars().next().is_some_and(char::is_uppercase);
        let is_sentence = opens && detail.ends_with('.') && !detail.contains('\n');
        assert!(is_sentence, "no sentence: {detail:?}");
        for (name, only_with) in [("allow", 405), ("retry-after", 503)] {
            assert_eq!(
                self.header(name).is_some(),
                status == only_with,
                "{name} with {status}"
            );
        }
        detail.to_owned()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
