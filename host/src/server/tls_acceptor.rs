//! Accepts TLS connections: the handshake with its time-out, its errors, and the response to plain HTTP.
//!
//! A connection in its handshake counts like any other. Until its first byte it is idle, and may be closed for a
//! new one; then it is like one whose header section arrives.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use alldata_peer_protocol::outcome::{InvalidRequest, Outcome};
use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::rustls::{self, CertificateError};
use tokio_rustls::server::TlsStream;

use crate::server::access_entry;
use crate::server::connection;
use crate::server::connection_state::ConnectionState;
use crate::server::context::ConnectionContext;
use crate::server::parse_error;
use crate::server::prefixed_io::PrefixedIo;
use crate::server::shutdown::{Phase, Shutdown};
use crate::util::log_limiter::LogLimiter;
use crate::util::request_id::RequestId;
use crate::util::tls::TlsConfig;

/// How long a handshake may take once the server drains: a few round trips.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Accepts the TLS connections of a server.
#[derive(Debug)]
pub(crate) struct TlsAcceptor {
    config: TlsConfig,
    failing: LogLimiter,
}

/// The end of a handshake.
enum Handshake<S> {
    Done(Box<TlsStream<PrefixedIo<S>>>),
    /// The client has sent a request in plain HTTP.
    PlainHttp {
        stream: S,
        is_head: bool,
    },
    /// The client has closed the connection before its first byte, as a health check does.
    Closed,
    Failed(io::Error),
}

impl TlsAcceptor {
    pub(crate) fn new(config: TlsConfig) -> Self {
        Self {
            config,
            failing: LogLimiter::default(),
        }
    }

    pub(crate) fn config(&self) -> &TlsConfig {
        &self.config
    }

    /// Performs the handshake. `None` if there is no connection to serve.
    pub(crate) async fn accept<S>(
        &self,
        stream: S,
        peer: SocketAddr,
        context: &ConnectionContext,
        shutdown: &Shutdown,
    ) -> Option<TlsStream<PrefixedIo<S>>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (state, limits) = (&context.state, &context.server.limits);
        let limit = limits.header_read_timeout;
        let handshake = pin!(timeout(limit, self.handshake(stream, state)));
        let asked = pin!(closed_for_another(state));
        let mut handshake = select(handshake, asked);
        let ended = match shutdown.run_until(Phase::Draining, &mut handshake).await {
            Some(ended) => Some(ended),
            None => {
                let rest = shutdown.run_until(Phase::Aborting, handshake);
                timeout(DRAIN_TIME, rest).await.ok().flatten()
            }
        };
        let metrics = &context.server.metrics;
        match ended? {
            Either::Left((Ok(Handshake::Done(stream)), _)) => {
                state.end_handshake();
                return Some(*stream);
            }
            Either::Left((Ok(Handshake::PlainHttp { stream, is_head }), _)) => {
                metrics.handshakes_failed.increment();
                refuse_plain_http(stream, is_head, context, shutdown).await;
            }
            Either::Left((Ok(Handshake::Closed), _)) => {
                tracing::debug!(%peer, "a client closed its connection before a TLS handshake");
            }
            Either::Left((Ok(Handshake::Failed(error)), _)) => {
                metrics.handshakes_failed.increment();
                self.log(peer, &error);
            }
            Either::Left((Err(_elapsed), _)) if state.is_reading_head() => {
                metrics.handshakes_failed.increment();
                let error = format!("it took more than {limit:?} (--header-read-timeout)");
                self.log(peer, &io::Error::new(io::ErrorKind::TimedOut, error));
            }
            Either::Left((Err(_elapsed), _)) => {
                tracing::debug!(%peer, "a client did not start a TLS handshake in time");
            }
            Either::Right(_) => {
                metrics.connections_evicted.increment();
                tracing::debug!("a connection without a TLS handshake was closed for a new one");
            }
        }
        None
    }

    async fn handshake<S>(&self, mut stream: S, state: &ConnectionState) -> Handshake<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut first = [0];
        match stream.read(&mut first).await {
            Ok(0) => return Handshake::Closed,
            Ok(_) => state.begin_head(),
            Err(error) => return Handshake::Failed(error),
        }
        let [first] = first;
        // The first byte of TLS is not a letter, that of a method is.
        if first.is_ascii_alphabetic() {
            let is_head = first == b'H';
            return Handshake::PlainHttp { stream, is_head };
        }
        let acceptor = tokio_rustls::TlsAcceptor::from(self.config.server_config());
        match acceptor.accept(PrefixedIo::new(first, stream)).await {
            Ok(stream) => Handshake::Done(Box::new(stream)),
            Err(error) => Handshake::Failed(error),
        }
    }

    /// Logs that a handshake failed, at most one line for each kind of error at a time.
    fn log(&self, peer: SocketAddr, error: &io::Error) {
        let source = error.get_ref().and_then(|error| error.downcast_ref());
        let kind = match source {
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
                "certificate"
            }
            Some(_) => "protocol",
            None => "connection",
        };
        let error: &dyn fmt::Display = match source {
            // Its text would be that of a debugger.
            Some(rustls::Error::InvalidCertificate(CertificateError::Other(other))) => other,
            _ => error,
        };
        if let Some(suppressed) = self.failing.check(kind) {
            tracing::info!(%peer, %error, suppressed, "a TLS handshake failed");
        }
    }

    /// Sends `close_notify`, as far as the client takes it at once, unless that was done: without it the client could
    /// not tell the end of the connection from an attack (RFC 8446, section 6.1).
    pub(crate) fn close<S>(stream: Option<S>)
    where
        S: AsyncWrite + Unpin,
    {
        if let Some(mut stream) = stream {
            let _ = stream.shutdown().now_or_never();
        }
    }
}

/// Responds to a request in plain HTTP.
async fn refuse_plain_http<S>(
    stream: S,
    is_head: bool,
    context: &ConnectionContext,
    shutdown: &Shutdown,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let outcome = Outcome::InvalidRequest(InvalidRequest::PlainHttp);
    let id = RequestId::random();
    context.server.refusals.count_outcome(&outcome, id);
    let (status, response) = parse_error::encode(&outcome, id, "", is_head);
    access_entry::log_unparsed(context, id, status);
    let lingering = connection::linger(stream, response, &context.state);
    shutdown.run_until(Phase::Aborting, lingering).await;
}

/// Completes once an idle connection is asked to close.
async fn closed_for_another(state: &ConnectionState) {
    poll_fn(|context| {
        state.wake_on_close(context);
        if !state.is_asked_to_close() {
            return Poll::Pending;
        }
        if state.idle_since_ms().is_some() {
            return Poll::Ready(());
        }
        state.decline_close(context);
        Poll::Pending
    })
    .await;
}
