//! Serves the connections of the listeners: in plain HTTP, or over TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::server::connection;
use crate::server::connection_limiter::ConnectionLimiter;
use crate::server::context::ConnectionContext;
use crate::server::reloader::Source;
use crate::server::shutdown::Shutdown;
#[cfg(feature = "tls")]
use crate::server::tls_acceptor::TlsAcceptor;

/// The way in which the connections of the listeners are served.
#[derive(Debug, Default)]
pub(crate) struct Transport {
    /// `None` for plain HTTP.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<TlsAcceptor>,
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

    /// The sources that are read again.
    pub(crate) fn sources(&self) -> Vec<Source> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return vec![Source::Tls(tls.config().clone())];
        }
        Vec::new()
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

    /// Serves a connection until either side closes it.
    pub(crate) async fn serve<S>(
        &self,
        stream: S,
        peer: SocketAddr,
        context: Arc<ConnectionContext>,
        shutdown: &Shutdown,
        connections: &ConnectionLimiter,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
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
