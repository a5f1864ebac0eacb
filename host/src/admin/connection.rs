//! One connection of an operator: one request, within small limits.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
#[cfg(feature = "tls")]
use tokio_rustls::TlsAcceptor;

use crate::admin::routes::{self, Routes};

/// How long a connection may exist: it has one request, and a response that fits the buffers of a socket.
/// A client that does not read is closed then.
const CONNECTION_TIME: Duration = Duration::from_secs(30);

/// How long the header section may take to arrive, and before it a TLS handshake.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The size of a request without a body in bytes: several times what browsers and scrapers send.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// How many header fields a request may have.
const MAX_HEADERS: usize = 64;

/// Serves a connection, over TLS if that is set up.
pub(super) async fn accept(stream: TcpStream, peer: SocketAddr, routes: Arc<Routes>) {
    #[cfg(feature = "tls")]
    if let Some(tls) = routes.tls() {
        let handshake = TlsAcceptor::from(tls.server_config()).accept(stream);
        match timeout(HEADER_READ_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => serve(stream, peer, routes).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake of an operator failed"),
            Err(_elapsed) => tracing::debug!("a TLS handshake of an operator took too long"),
        }
        return;
    }
    serve(stream, peer, routes).await;
}

/// Serves one request.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, peer: SocketAddr, routes: Arc<Routes>) {
    let service = service_fn(|request| {
        let routes = Arc::clone(&routes);
        async move { Ok::<_, Infallible>(routes::respond(routes, request, peer).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .keep_alive(false)
        .half_close(true)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEADER_BYTES)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(%error, "a connection of an operator ended with an error");
        }
        Err(_elapsed) => {
            tracing::debug!("a connection of an operator was closed: it took too long");
        }
    }
}
