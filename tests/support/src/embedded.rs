//! A server of the library inside the test process, on a runtime of its own.

use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver};

use alldata_peer_server_http::{PeerServer, PeerServerBuilder, PutError};
use tokio::runtime::Runtime;

use super::{Answer, Connection, Post};

/// A server of the library.
pub struct Embedded {
    pub runtime: Runtime,
    pub server: PeerServer,
}

impl Embedded {
    /// Starts a server on a free port of the loopback interface.
    pub fn start(builder: PeerServerBuilder) -> Self {
        let runtime = Runtime::new().expect("starts a runtime");
        let server = runtime
            .block_on(builder.hostname("127.0.0.1").port(0).listen())
            .expect("listens");
        Self { runtime, server }
    }

    /// A server whose sink accepts everything and sends it to the test.
    pub fn capturing() -> (Self, Receiver<(String, String)>) {
        let (sender, puts) = mpsc::channel();
        let server = Self::start(PeerServer::builder().on_put(move |key, event| {
            let sent = sender.send((key, event));
            async move { sent.map_err(|error| PutError::Failed(error.to_string())) }
        }));
        (server, puts)
    }

    /// A server whose sink returns this error for every put.
    pub fn failing(error: PutError) -> Self {
        Self::start(PeerServer::builder().on_put(move |_, _| {
            let error = error.clone();
            async move { Err(error) }
        }))
    }

    pub fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address())
    }

    pub fn send(&self, post: &Post) -> Answer {
        post.send_to(self.address())
    }

    /// Puts on a new connection. The key is escaped as in a JSON string.
    pub fn put(&self, key: &str, event: &str) -> Answer {
        self.send(&Post::put(key, event))
    }

    pub fn close(&self) {
        self.runtime.block_on(self.server.close());
    }
}
