//! A peer that handles each request as a test says, and keeps the requests.
//!
//! It serves one connection after the other, so that a request that is sent twice is seen twice.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use serde_json::Value;

use super::DEADLINE;

/// The peer, which ends when dropped.
pub struct ScriptedPeer {
    address: SocketAddr,
    requests: Receiver<Exchange>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// One request, as far as it was read, and its connection.
pub struct Exchange {
    stream: BufReader<TcpStream>,
    /// The request line and the header fields.
    pub head: String,
    pub body: Vec<u8>,
}

impl ScriptedPeer {
    /// A peer that calls `script` for each request, after it has read the header section.
    pub fn start(script: impl Fn(&mut Exchange) + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
        let address = listener.local_addr().expect("is bound");
        let (sender, requests) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                let mut exchange = Exchange::accept(stream.expect("accepts"));
                script(&mut exchange);
                // The test may not receive it, and then the connection is closed.
                let _ = sender.send(exchange);
            }
        });
        Self {
            address,
            requests,
            is_over,
            thread: Some(thread),
        }
    }

    /// A peer that reads each request completely and sends the same response to each.
    pub fn answering(status: &'static str) -> Self {
        Self::start(move |exchange| exchange.read_body().answer(status, "", ""))
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}/_put", self.address)
    }

    /// The next request that the script has handled. Its connection stays open until it is dropped.
    pub fn request(&self) -> Exchange {
        let request = self.requests.recv_timeout(DEADLINE);
        request.expect("is asked")
    }

    /// Ends the peer, and returns the further requests that the script has handled.
    pub fn into_requests(mut self) -> Vec<Exchange> {
        self.end();
        self.requests.try_iter().collect()
    }

    /// The number of further requests.
    pub fn more_requests(&self) -> usize {
        self.requests.try_iter().count()
    }

    /// Ends the thread, unless that was done.
    fn end(&mut self) {
        let Some(running) = self.thread.take() else {
            return;
        };
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread.
        let _ = TcpStream::connect_timeout(&self.address, DEADLINE);
        let ended = running.join();
        if !thread::panicking() {
            ended.expect("each script ran to its end");
        }
    }
}

impl Drop for ScriptedPeer {
    fn drop(&mut self) {
        self.end();
    }
}

impl Exchange {
    fn accept(stream: TcpStream) -> Self {
        for timeout in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
            timeout(&stream, Some(DEADLINE)).expect("sets an option");
        }
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = stream.read_line(&mut head).expect("reads a line");
            assert_ne!(read, 0, "the head ends early: {head:?}");
        }
        Self {
            stream,
            head,
            body: Vec::new(),
        }
    }

    /// The value of a header field that occurs at most once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut values = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value);
        assert_eq!(values.next(), None, "{name} is there twice");
        value
    }

    /// The key of the put.
    pub fn key(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).expect("is JSON");
        body["key"].as_str().expect("is a string").to_owned()
    }

    /// Reads the body to its announced length.
    pub fn read_body(&mut self) -> &mut Self {
        let length = self.header("content-length").expect("has a length");
        self.body = vec![0; length.parse().expect("is a number")];
        self.stream.read_exact(&mut self.body).expect("reads");
        self
    }

    /// Reads the body in many small steps, so that the sender has to wait.
    pub fn read_body_slowly(&mut self) -> &mut Self {
        let length = self.header("content-length").expect("has a length");
        let length: usize = length.parse().expect("is a number");
        self.body.extend_from_slice(self.stream.buffer());
        let read = self.body.len();
        self.body.resize(length, 0);
        for part in self.body[read..].chunks_mut(64) {
            self.stream.get_mut().read_exact(part).expect("reads");
        }
        self
    }

    /// Responds with these further header fields, each with its line break, and closes the connection.
    pub fn answer(&mut self, status: &str, fields: &str, body: &str) {
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
        );
        self.send(&answer);
    }

    /// Sends this and no more.
    pub fn send(&mut self, text: &str) -> &mut Self {
        let stream = self.stream.get_mut();
        stream.write_all(text.as_bytes()).expect("sends");
        self
    }

    /// Closes the connection without a response.
    pub fn close(&mut self) {
        let both = Shutdown::Both;
        self.stream.get_mut().shutdown(both).expect("closes");
    }

    /// Waits until the other side has closed the connection, and returns its remaining bytes.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => {
                panic!("the connection stays: {error}")
            }
            _ => rest,
        }
    }
}
