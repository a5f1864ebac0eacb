//! A server that is up: its sockets, its connections, and how it ends.
//!
//! Never looks into a request: that is `handler`'s.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use crate::builder::PeerServerBuilder;
use crate::closing::{Closing, Phase};
use crate::handler::Handler;
use crate::listener::{self, Listener};
use crate::sink::{BoxSink, PutSink as _};

/// How often a server looks whether a connection has had a request.
const IDLE_TICK: Duration = Duration::from_secs(15);

/// How many times in a row it must have had none to be ended: 75 to 90 s in which it may be idle, or
/// take to send the head of a request. That is longer than clients keep an unused connection, so it
/// is rarely this end that closes one.
const IDLE_TICKS: u32 = 5;

/// How often a closing server looks whether a connection has a request in service.
const CLOSING_TICK: Duration = Duration::from_millis(500);

/// How many times in a row it must have none to be ended: 1 s at least, for the rest of a head that
/// is on its way, or for a client to read its last answer.
const CLOSING_GRACE_TICKS: u32 = 3;

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
    drain_timeout: Duration,
    runtime: Handle,
    /// Whether `close` has done its work.
    closed: Mutex<bool>,
}

/// What the tasks of a server share.
#[derive(Clone)]
struct Shared {
    handler: Arc<Handler>,
    closing: Arc<Closing>,
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
        drain_timeout: Duration,
    ) -> Self {
        let shared = Shared {
            handler: Arc::new(handler),
            closing: Arc::default(),
        };
        let addresses = listeners.iter().map(|listener| listener.address).collect();
        for listener in listeners {
            let accepting = shared.clone().accept(listener);
            shared.handler.tasks.spawn(accepting);
        }
        Self {
            hostname,
            addresses,
            shared,
            sink,
            drain_timeout,
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
        let tasks = &self.shared.handler.tasks;
        let token = tasks.token();
        if self.shared.closing.has_begun(Phase::Closing) {
            return;
        }
        let serving = self.shared.clone().serve(stream);
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
        let tasks = &self.shared.handler.tasks;
        tasks.close();
        if tokio::time::timeout(self.drain_timeout, tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(tasks = tasks.len(), "closing with requests in flight");
            self.shared.closing.begin(Phase::Aborting);
        }
        self.flush().await;
        *closed = true;
    }

    /// Flushes the sink, whatever it does: a panic or no end must not keep a server from closing.
    async fn flush(&self) {
        let flush = AssertUnwindSafe(async { self.sink.flush().await }).catch_unwind();
        match tokio::time::timeout(self.drain_timeout, flush).await {
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
    /// Accepts connections until the server closes, each served by a task of its own.
    async fn accept(self, listener: Listener) {
        while let Some(stream) = self
            .closing
            .unless(Phase::Closing, listener::accept(&listener.socket))
            .await
        {
            let serving = self.clone().serve(stream);
            self.handler.tasks.spawn(serving);
        }
    }

    /// Serves one connection, request by request.
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
        let (handler, requests) = (self.handler.apart(), Requests::default());
        let service = service_fn(|request| {
            let (handler, requests) = (&handler, &requests);
            async move {
                requests.begin();
                let answer = handler.handle(request).await;
                requests.end();
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = http1::Builder::new()
            // A client may end its side of the connection once it has sent its request.
            .half_close(true)
            // Answers are small: one copy costs less than a list of buffers.
            .writev(false)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let serving = async {
            tokio::select! {
                biased;
                result = connection.as_mut() => result,
                () = requests.cease() => Ok(()),
            }
        };
        let served = match self.closing.unless(Phase::Closing, serving).await {
            Some(result) => Some(result),
            None => {
                let ending = end(connection, &requests);
                self.closing.unless(Phase::Aborting, ending).await
            }
        };
        if let Some(Err(error)) = served {
            tracing::debug!(%error, "a connection ended with an error");
        }
    }
}

/// Ends a connection once its last request is answered, or at once where it has none.
async fn end<C>(mut connection: Pin<&mut C>, requests: &Requests) -> hyper::Result<()>
where
    C: GracefulConnection<Error = hyper::Error>,
{
    // A request that has arrived but was not read yet is in flight too. Where its answer is there at
    // once, it is the only one that does not say that it is the last.
    if requests.in_service() == 0
        && let Some(result) = connection.as_mut().now_or_never()
    {
        return result;
    }
    connection.as_mut().graceful_shutdown();
    let mut idle_ticks = 0;
    while idle_ticks < CLOSING_GRACE_TICKS {
        tokio::select! {
            biased;
            result = connection.as_mut() => return result,
            () = tokio::time::sleep(CLOSING_TICK) => {}
        }
        let is_idle = requests.in_service() == 0;
        idle_ticks = if is_idle { idle_ticks + 1 } else { 0 };
    }
    Ok(())
}

/// Counts the requests of a connection. Only its own task does, so no addition is lost.
#[derive(Default)]
struct Requests {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

impl Requests {
    fn begin(&self) {
        self.begun.store(self.begun() + 1, Ordering::Relaxed);
    }

    fn end(&self) {
        let ended = self.ended.load(Ordering::Relaxed);
        self.ended.store(ended + 1, Ordering::Relaxed);
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    fn in_service(&self) -> usize {
        self.begun() - self.ended.load(Ordering::Relaxed)
    }

    /// Ready when there was none for [`IDLE_TICKS`]. A timer for each request would cost more.
    async fn cease(&self) {
        let (mut ticks, mut seen) = (0, 0);
        while ticks < IDLE_TICKS {
            tokio::time::sleep(IDLE_TICK).await;
            let is_idle = self.in_service() == 0 && self.begun() == seen;
            ticks = if is_idle { ticks + 1 } else { 0 };
            seen = self.begun();
        }
    }
}
