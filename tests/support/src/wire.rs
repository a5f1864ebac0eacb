//! A client at the other end of a pipe in memory, for a server that is given its connections.
//!
//! It waits on the clock of its runtime, so that hours can pass in no time.

use std::sync::Arc;
use std::time::Duration;

use alldata_peer_server_http::PeerServer;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::io::{BufReader, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Answer, Post};

/// The capacity of the pipe in bytes, in each direction.
const PIPE_BYTES: usize = 1024;

/// The time-out of any single wait: longer than a server keeps an idle connection.
const WIRE_DEADLINE: Duration = Duration::from_secs(600);

/// The client's end.
pub struct Wire {
    stream: BufReader<DuplexStream>,
    /// Ends with the server's end.
    pub serving: JoinHandle<()>,
}

impl Wire {
    /// Gives a server one end. To be called on its runtime.
    pub fn to(server: &Arc<PeerServer>) -> Self {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let server = Arc::clone(server);
        Self {
            stream: BufReader::new(near),
            serving: tokio::spawn(async move { server.serve_connection(far).await }),
        }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = self.stream.get_mut().write_all(bytes.as_ref());
        let sent = timeout(WIRE_DEADLINE, sent).await;
        sent.expect("is in time").expect("sends");
    }

    pub async fn ask(&mut self, post: &Post) -> Answer {
        self.send(post.bytes()).await;
        self.answer().await
    }

    /// Reads the next response, which has a `Content-Length`.
    pub async fn answer(&mut self) -> Answer {
        let read = timeout(WIRE_DEADLINE, self.read_answer());
        read.await.expect("is in time")
    }

    async fn read_answer(&mut self) -> Answer {
        let status_line = self.line().await;
        let status = status_line.split(' ').nth(1);
        let status = status.and_then(|code| code.parse().ok());
        let mut answer = Answer {
            status: status.unwrap_or_else(|| panic!("no status line: {status_line:?}")),
            headers: Vec::new(),
            body: Vec::new(),
            request_id: None,
        };
        while let Some((name, value)) = self.line().await.split_once(": ") {
            let name = name.to_ascii_lowercase();
            answer.headers.push((name, value.to_owned()));
        }
        let length = answer.header("content-length").expect("has a length");
        let mut body = vec![0; length.parse().expect("is a number")];
        let read = self.stream.read_exact(&mut body).await;
        read.expect("reads the whole body");
        answer.body = body;
        answer.take_request_id();
        answer
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).await;
        assert_ne!(read.expect("reads"), 0, "the connection has ended");
        line.trim_end().to_owned()
    }

    /// Waits until the server has closed the connection, and returns its remaining bytes.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let read = timeout(WIRE_DEADLINE, self.stream.read_to_end(&mut rest)).await;
        read.expect("is in time").expect("reads");
        let ended = timeout(WIRE_DEADLINE, &mut self.serving).await;
        ended.expect("is in time").expect("did not panic");
        rest
    }
}
