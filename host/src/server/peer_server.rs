//! A server that is up: its sockets, its connections, and how it ends.
//!
//! Never looks into a request: that is `handler`'s.

use std::fmt;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::limits::Limits;
use crate::server::builder::PeerServerBuilder;
use crate::server::connection;
use crate::server::connection_limiter::Connections;
use crate::server::listener::Listener;
use crate::server::service::Handler;
use crate::server::shutdown::{Closing, Phase};
use crate::sink::{BoxSink, PutSink as _};

/// An AllData peer server that is listening.
///
/// Dropped, it stops accepting connections and ends those it has once they are idle;
/// [`close`](Self::close) does the same and tells when all is done.
#[must_use = "a server that is dropped stops listening"]
pub struct PeerServer {
    hostname: Option<String>,
    addresses: Vec<SocketAddr>,
    shared: Shared,
    sink: BoxSink,
    runtime: Handle,
    /// Whether `close` has done its work.
    closed: Mutex<bool>,
}

/// What the tasks of a server share.
#[derive(Clone)]
struct Shared {
    handler: Arc<Handler>,
    closing: Arc<Closing>,
    limits: Limits,
    connections: Arc<Connections>,
}

impl PeerServer {
    /// A server in the making.
    pub fn builder() -> PeerServerBuilder {
        PeerServerBuilder::default()
    }

    pub(crate) fn start(
        hostname: Option<String>,
        listeners: Vec<Listener>,
        handler: Handler,
        sink: BoxSink,
        limits: Limits,
    ) -> Self {
        let shared = Shared {
            handler: Arc::new(handler),
            closing: Arc::default(),
            limits,
            connections: Arc::new(Connections::new(&limits)),
        };
        let addresses = listeners.iter().map(|listener| listener.address).collect();
        for listener in listeners {
            let accepting = shared.clone().accept(listener);
            shared.tasks().spawn(accepting);
        }
        Self {
            hostname,
            addresses,
            shared,
            sink,
            runtime: Handle::current(),
            closed: Mutex::new(false),
        }
    }

    /// The address that the server listens on, the first where there are several.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        let first = self.addresses.first();
        *first.expect("`listener::bind` returns at least one listener")
    }

    /// All addresses that the server listens on: one, unless its host name has several.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The host name that the server was given.
    #[must_use]
    pub fn hostname(&self) -> Option<&str> {
        self.hostname.as_deref()
    }

    /// The port that the server listens on, on all of its addresses.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.local_addr().port()
    }

    /// Serves a connection that was accepted elsewhere, such as one over TLS or a Unix socket, until
    /// it ends. To this server it is like one of its own, also when that closes; one that comes
    /// after that has begun is dropped. It is served by the runtime of the server, and dropping the
    /// future ends it.
    pub async fn serve_connection<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // In this order, so that a server which closes meanwhile waits for it.
        let tasks = self.shared.tasks();
        let token = tasks.token();
        if self.shared.closing.has_begun(Phase::Closing) {
            return;
        }
        let handler = self.shared.handler.apart();
        let shared = self.shared.clone();
        let serving = async move { shared.serve(stream, handler, None).await };
        let serving = AbortOnDropHandle::new(tasks.spawn_on(serving, &self.runtime));
        drop(token);
        if let Err(error) = serving.await {
            tracing::error!(%error, "a connection was not served to its end");
        }
    }

    /// Stops accepting connections, answers what is in flight, up to the drain time-out, and
    /// flushes the sink. Closing twice is fine: the second call waits for the first.
    pub async fn close(&self) {
        self.shared.closing.begin(Phase::Closing);
        let mut closed = self.closed.lock().await;
        if *closed {
            return;
        }
        let tasks = self.shared.tasks();
        tasks.close();
        if tokio::time::timeout(self.shared.limits.drain_timeout, tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(tasks = tasks.len(), "closing with requests in flight");
            self.shared.closing.begin(Phase::Aborting);
        }
        self.flush().await;
        self.shared.handler.refusals.report_totals();
        *closed = true;
    }

    /// Flushes the sink, whatever it does: a panic or no end must not keep a server from closing.
    async fn flush(&self) {
        let flush = AssertUnwindSafe(async { self.sink.flush().await }).catch_unwind();
        match tokio::time::timeout(self.shared.limits.drain_timeout, flush).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::error!(%error, "cannot flush the sink"),
            Ok(Err(_panic)) => tracing::error!("the sink panicked when it was flushed"),
            Err(_elapsed) => tracing::error!("the sink was not flushed in time"),
        }
    }
}

impl fmt::Debug for PeerServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PeerServer")
            .field("hostname", &self.hostname)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Drop for PeerServer {
    fn drop(&mut self) {
        self.shared.closing.begin(Phase::Closing);
    }
}

impl Shared {
    /// The tasks of the server.
    fn tasks(&self) -> &TaskTracker {
        &self.handler.activity.tasks
    }

    /// Accepts connections until the server closes, and then those that the system holds by then. When
    /// there are as many as there may be, and none of them is idle, the next one waits, and those
    /// after it in the system's queue.
    async fn accept(self, mut listener: Listener) {
        loop {
            let accepting = listener.accept();
            let Some((stream, peer)) = self.closing.unless(Phase::Closing, accepting).await else {
                break;
            };
            self.admit(stream, peer).await;
        }
        for (stream, peer) in listener.close() {
            self.admit(stream, peer).await;
        }
    }

    /// Serves a connection in a task of its own, once there is a place for it.
    async fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let handler = self.handler.apart();
        let admitted = Connections::admit(&self.connections, peer.ip(), &handler.activity);
        // At the end it waits for as long as those that have the places are waited for.
        let admitted = self.closing.unless(Phase::Aborting, admitted).await;
        let Some(Some(permit)) = admitted else {
            return;
        };
        let shared = self.clone();
        self.tasks().spawn(async move {
            let connections = Some(&*shared.connections);
            shared.serve(stream, handler, connections).await;
            drop(permit);
        });
    }

    /// Serves one connection, which is one of `connections` if the server has accepted it itself.
    async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        handler: Handler,
        connections: Option<&Connections>,
    ) {
        connection::serve(stream, handler, &self.closing, &self.limits, connections).await;
    }
}
