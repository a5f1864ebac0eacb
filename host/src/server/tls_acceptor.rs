//! Accepts TLS connections: the handshake with its time-out, its errors, and the response to plain HTTP.
//!
//! `preamble` limits the time of the handshake.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use alldata_peer_protocol::outcome::{InvalidRequest, Outcome};
use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::rustls::{self, CertificateError};
use tokio_rustls::server::TlsStream;

use crate::server::access_entry;
use crate::server::connection;
use crate::server::connection_state::ConnectionState;
use crate::server::context::ConnectionContext;
use crate::server::parse_error;
use crate::server::preamble::{self, Preamble};
use crate::server::prefixed_io::PrefixedIo;
use crate::server::shutdown::{Phase, Shutdown};
use crate::util::log_limiter::LogLimiter;
use crate::util::tls::TlsConfig;

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
        let state = &context.state;
        let metrics = &context.server.metrics;
        let peer = context.peer().unwrap_or(peer);
        let handshake = preamble::run(context, shutdown, self.handshake(stream, state));
        match handshake.await? {
            Preamble::Done(Handshake::Done(stream)) => {
                state.end_preamble();
                return Some(*stream);
            }
            Preamble::Done(Handshake::PlainHttp { stream, is_head }) => {
                metrics.handshakes_failed.increment();
                refuse_plain_http(stream, is_head, context, shutdown).await;
            }
            Preamble::Done(Handshake::Closed) => {
                tracing::debug!(%peer, "a client closed its connection before a TLS handshake");
            }
            Preamble::Done(Handshake::Failed(error)) => {
                metrics.handshakes_failed.increment();
                self.log(peer, &error);
            }
            Preamble::TimedOut if state.is_reading_head() => {
                metrics.handshakes_failed.increment();
                let limit = context.server.limits.header_read_timeout;
                let error = format!("it took more than {limit:?} (--header-read-timeout)");
                self.log(peer, &io::Error::new(io::ErrorKind::TimedOut, error));
            }
            Preamble::TimedOut => {
                tracing::debug!(%peer, "a client did not start a TLS handshake in time");
            }
            Preamble::Evicted => {}
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
    let info = context.unparsed_info();
    context.server.refusals.count_outcome(&outcome, &info);
    let (status, response) = parse_error::encode(&outcome, info.id, "", is_head);
    access_entry::log_unparsed(context, &info, status);
    let lingering = connection::linger(stream, response, &context.state);
    shutdown.run_until(Phase::Aborting, lingering).await;
}
