//! A running server: its listeners, its connections, and its shutdown.

use std::fmt;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::server::admission::Admission;
use crate::server::connection;
use crate::server::context::{ConnectionOrigin, ServerContext};
use crate::server::listen_address::LocalAddress;
use crate::server::listener::Listener;
use crate::server::monitor::{Health, Monitor};
use crate::server::put_service::PutService;
use crate::server::reloader::{Reloaded, Reloader};
use crate::server::shutdown::{Phase, until};
use crate::server::transport::{OpenConnection, Transport};
use crate::sink::{BoxSink, PutSink as _};

/// The least time for the flush of the sink, and the time for that of the access log, even if the connections used up
/// the drain time-out.
const MIN_FLUSH_TIME: Duration = Duration::from_secs(1);

/// A running AllData peer server.
///
/// Dropped, it stops accepting connections and closes those it has once they are idle, without a time limit.
/// [`close`](Self::close) does that within a time limit, flushes the sink, and returns afterwards.
#[must_use = "a server that is dropped stops"]
pub struct PeerServer {
    hostname: Option<String>,
    /// Those of TCP.
    addresses: Vec<SocketAddr>,
    listen_addresses: Vec<LocalAddress>,
    /// The task of each listener.
    accepting: Vec<AbortHandle>,
    shared: Admission,
    reloader: Option<Reloader>,
    sink: BoxSink,
    monitor: Monitor,
    runtime: Handle,
    /// Whether `close` is done.
    closed: Mutex<bool>,
}

impl PeerServer {
    pub(crate) fn start(
        hostname: Option<String>,
        listeners: Vec<Listener>,
        transport: Transport,
        reloader: Option<Reloader>,
        context: Arc<ServerContext>,
        sink: BoxSink,
        monitor: Monitor,
    ) -> Self {
        let shared = Admission::new(context, transport);
        monitor.attach(
            &shared.context,
            &shared.shutdown,
            &shared.connections,
            &shared.transport,
        );
        let listen_addresses = listeners.iter().map(|listener| listener.address.clone());
        let listen_addresses: Vec<LocalAddress> = listen_addresses.collect();
        let of_tcp = |address: &LocalAddress| match address {
            LocalAddress::Tcp(address) => Some(*address),
            LocalAddress::Unix(_) => None,
        };
        let addresses = listen_addresses.iter().filter_map(of_tcp).collect();
        let mut accepting = Vec::new();
        for listener in listeners {
            let task = shared.clone().accept(listener);
            accepting.push(shared.tasks().spawn(task).abort_handle());
        }
        Self {
            hostname,
            addresses,
            listen_addresses,
            accepting,
            shared,
            reloader,
            sink,
            monitor,
            runtime: Handle::current(),
            closed: Mutex::new(false),
        }
    }

    /// The TCP address that the server listens on, the first if there are several.
    ///
    /// # Panics
    ///
    /// If the server has no TCP listener, as when [`build`](crate::PeerServerBuilder::build) started it.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        let first = self.addresses.first();
        *first.expect("the server listens on no TCP address")
    }

    /// All TCP addresses that the server listens on: one, unless its host name has several or it was given
    /// several, and none if [`build`](crate::PeerServerBuilder::build) started it.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The scheme of its URLs: `https` if the listeners speak TLS, or else `http`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        self.shared.transport.scheme()
    }

    /// When the certificate of the listeners expires, if it was read from a file.
    #[must_use]
    pub fn certificate_expiry(&self) -> Option<SystemTime> {
        self.shared.transport.expiry()
    }

    /// All addresses that the server listens on, those of Unix sockets among them.
    #[must_use]
    pub fn listen_addresses(&self) -> &[LocalAddress] {
        &self.listen_addresses
    }

    /// Whether each listener accepts connections: not after the begin of [`close`](Self::close), nor if a task
    /// of the server has failed.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        self.accepting.iter().all(|task| !task.is_finished())
    }

    /// The host name that the server was given.
    #[must_use]
    pub fn hostname(&self) -> Option<&str> {
        self.hostname.as_deref()
    }

    /// The TCP port that the server listens on, the first if it was given several.
    ///
    /// # Panics
    ///
    /// As [`local_addr`](Self::local_addr).
    #[must_use]
    pub fn port(&self) -> u16 {
        self.local_addr().port()
    }

    /// The monitor of this server, which reads its health and its metrics.
    #[must_use]
    pub fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// Whether the server is likely to store puts now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.monitor.health()
    }

    /// Serves a connection that was accepted elsewhere, such as one over TLS or a Unix socket, until it ends.
    /// It is served on the runtime of the server, and drained when the server closes; after that it is
    /// dropped at once. It does not count towards [`Limits::max_connections`](crate::Limits::max_connections)
    /// or [`Limits::max_connections_per_address`](crate::Limits::max_connections_per_address). Dropping the
    /// future closes it.
    pub async fn serve_connection<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Taken before the check, so that a server that closes at the same time waits for this connection.
        let tasks = self.shared.tasks();
        let token = tasks.token();
        if self.shared.shutdown.has_begun(Phase::Draining) {
            return;
        }
        let context = self
            .shared
            .context
            .connection(ConnectionOrigin::default(), false);
        let shutdown = Arc::clone(&self.shared.shutdown);
        let server = Arc::clone(&self.shared.context);
        let serving = async move {
            let _open = OpenConnection::new(&server.metrics);
            connection::serve(stream, context, &shutdown, None).await;
        };
        let serving = AbortOnDropHandle::new(tasks.spawn_on(serving, &self.runtime));
        drop(token);
        if let Err(error) = serving.await {
            tracing::error!(%error, "the task of a connection failed");
        }
    }

    /// The server as a service, to be called for each put that another HTTP server has read: it may be mounted in a
    /// router, beside other routes. It serves until the server is closed or dropped.
    #[must_use]
    pub fn service(&self) -> PutService {
        PutService::new(&self.shared.context, &self.shared.shutdown)
    }

    /// Has certificates, also those of a sink `https:`, and tokens read again, the file of the access log reopened, and a
    /// file of `ndjson:` that was moved away replaced by a new one, in the background. Returns whether there are any.
    /// Certificates and tokens are also read again when their files change. If it fails, the error is logged, the old ones stay in effect, and it is tried again.
    pub fn reload(&self) -> bool {
        if let Some(reloader) = &self.reloader {
            drop(reloader.request());
        }
        self.reloader.is_some()
    }

    /// The same, and waits until it is done.
    pub async fn reload_and_wait(&self) -> Reloaded {
        match &self.reloader {
            None => Reloaded::Nothing,
            Some(reloader) if reloader.request().await => Reloaded::All,
            Some(_) => Reloaded::Failed,
        }
    }

    /// Stops accepting connections, finishes the requests in service, and flushes the sink, all within
    /// [`Limits::drain_timeout`](crate::Limits::drain_timeout). A second call waits for the first.
    pub async fn close(&self) {
        self.shared.shutdown.begin(Phase::Draining);
        let mut closed = self.closed.lock().await;
        if *closed {
            return;
        }
        let drain_timeout = self.shared.context.limits.drain_timeout;
        // `None` if the clock cannot represent it: then there is no limit.
        let deadline = Instant::now().checked_add(drain_timeout);
        let tasks = self.shared.tasks();
        tasks.close();
        if until(deadline, tasks.wait()).await.is_none() {
            tracing::warn!(tasks = tasks.len(), "closing with requests in service");
            self.shared.shutdown.begin(Phase::Aborting);
        }
        if let Some(reloader) = &self.reloader {
            // It may be reopening the file of the sink.
            until(deadline, reloader.stop()).await;
        }
        self.flush(deadline).await;
        if let Some(log) = &self.shared.context.access_log
            && timeout(MIN_FLUSH_TIME, log.flush()).await.is_err()
        {
            tracing::warn!("the access log was not written in time");
        }
        self.shared.context.refusals.report_totals();
        *closed = true;
    }

    /// Flushes the sink. Neither a panic nor a sink that hangs keeps the server from closing.
    async fn flush(&self, deadline: Option<Instant>) {
        let flush = AssertUnwindSafe(async { self.sink.flush().await }).catch_unwind();
        let deadline = deadline.map(|deadline| deadline.max(Instant::now() + MIN_FLUSH_TIME));
        match until(deadline, flush).await {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => tracing::error!(%error, "cannot flush the sink"),
            Some(Err(_panic)) => tracing::error!("the sink panicked when it was flushed"),
            None => tracing::error!("the sink was not flushed in time"),
        }
    }
}

impl fmt::Debug for PeerServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PeerServer")
            .field("hostname", &self.hostname)
            .field("addresses", &self.listen_addresses)
            .finish_non_exhaustive()
    }
}

impl Drop for PeerServer {
    fn drop(&mut self) {
        self.shared.shutdown.begin(Phase::Draining);
        // Afterwards nobody but the tasks of the server keeps the sink open.
        self.monitor.detach();
    }
}
