//! Serves the connections of the listeners: in plain HTTP, or over TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::metrics::server_metrics::ServerMetrics;
use crate::server::auth::Authorizer;
use crate::server::connection;
use crate::server::connection_limiter::ConnectionLimiter;
use crate::server::context::ConnectionContext;
use crate::server::listen_address::LocalAddress;
use crate::server::listener::Listener;
use crate::server::reload_source::Source;
use crate::server::shutdown::Shutdown;
#[cfg(feature = "tls")]
use crate::server::tls_acceptor::TlsAcceptor;
#[cfg(unix)]
use crate::server::unix_socket;
use crate::sink::BoxSink;

/// The way in which the connections of the listeners are served.
#[derive(Debug, Default)]
pub(crate) struct Transport {
    /// `None` for plain HTTP.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<TlsAcceptor>,
}

/// Counts a connection as open until this is dropped.
pub(crate) struct OpenConnection<'a>(&'a ServerMetrics);

impl<'a> OpenConnection<'a> {
    pub(crate) fn new(metrics: &'a ServerMetrics) -> Self {
        metrics.shard().count_connection_opened();
        Self(metrics)
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.shard().count_connection_ended();
    }
}

impl Transport {
    /// The scheme of the URLs of the server.
    pub(crate) fn scheme(&self) -> &'static str {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return "https";
        }
        "http"
    }

    /// Whether the connections of this client are over TLS. Those of Unix sockets, whose clients have no address, are not.
    pub(crate) fn is_tls(&self, peer: Option<SocketAddr>) -> bool {
        peer.is_some() && self.scheme() == "https"
    }

    /// The sources of a server that are read again.
    pub(crate) fn sources(
        &self,
        authorizer: Option<Arc<dyn Authorizer>>,
        sink: &BoxSink,
    ) -> Vec<Source> {
        let authorizer = authorizer.map(Source::Authorizer).into_iter();
        let rest = authorizer.chain(sink.reopen().map(Source::Sink));
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let tls = Source::Tls(tls.config().clone());
            return std::iter::once(tls).chain(rest).collect();
        }
        rest.collect()
    }

    /// When the certificate of the server expires, if there is one and that is known.
    pub(crate) fn expiry(&self) -> Option<SystemTime> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.config().expiry();
        }
        None
    }

    /// Whether clients are authenticated by their certificates.
    pub(crate) fn authenticates_clients(&self) -> bool {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.config().authenticates_clients();
        }
        false
    }

    /// Serves a connection until either side closes it. Unix sockets, whose clients have no address, are served
    /// without TLS.
    pub(crate) async fn serve<S>(
        &self,
        stream: S,
        peer: Option<SocketAddr>,
        context: Arc<ConnectionContext>,
        shutdown: &Shutdown,
        connections: &ConnectionLimiter,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let metrics = Arc::clone(&context.server.metrics);
        let _open = OpenConnection::new(&metrics);
        #[cfg(feature = "tls")]
        if let (Some(tls), Some(peer)) = (&self.tls, peer) {
            let serving = async {
                let accepted = tls.accept(stream, peer, &context, shutdown).await;
                if let Some(stream) = accepted {
                    let open = connection::serve(stream, context, shutdown, Some(connections));
                    TlsAcceptor::close(open.await);
                }
            };
            // Boxed, since its size would be part of every connection's future.
            return Box::pin(serving).await;
        }
        let _ = peer;
        connection::serve(stream, context, shutdown, Some(connections)).await;
    }
}

/// Warns of listeners on which everybody can put, where there is no authorizer: those that other machines may reach
/// unless clients have certificates, and Unix sockets, which are without TLS, that every local user may open.
pub(crate) fn warn_if_open(listeners: &[Listener], have_certificates: bool) {
    #[cfg(unix)]
    for listener in listeners {
        if let LocalAddress::Unix(path) = &listener.address
            && unix_socket::is_open_to_others(path)
        {
            tracing::warn!(
                address = %listener.address,
                "every user of this machine can put by this Unix socket, which is without TLS: set --token-file, or a mode such as 0600 or 0660"
            );
        }
    }
    if have_certificates {
        return;
    }
    let of_tcp = |listener: &Listener| match listener.address {
        LocalAddress::Tcp(address) => Some(address),
        LocalAddress::Unix(_) => None,
    };
    let addresses = listeners.iter().filter_map(of_tcp);
    if let Some(address) = addresses
        .into_iter()
        .find(|address| !address.ip().to_canonical().is_loopback())
    {
        tracing::warn!(
            %address,
            "every client that reaches this address can put: set --token-file or --tls-client-ca, or listen on a loopback address"
        );
    }
}
