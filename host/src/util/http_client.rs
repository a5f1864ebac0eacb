//! The HTTP/1.1 client of the host: its settings, and the check for a connection to itself.
//!
//! Where no process listens on a port, the system may choose that port for the client's end of the connection,
//! and then connects the socket to itself (TCP simultaneous open). The client would read its own request as the
//! response. This concerns only ports from the range that the system chooses for clients.

use std::time::Duration;

use hyper::Request;
use hyper::body::Body;
use hyper::http::Extensions;
#[cfg(feature = "tls")]
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connect, Connected, HttpConnector, HttpInfo};
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
#[cfg(feature = "tls")]
use tokio_rustls::rustls::ClientConfig;

#[cfg(feature = "tls")]
use crate::util::timed_connector::TimedConnector;

/// A client with a pool of connections, which its clones share.
#[derive(Debug)]
pub(crate) enum HttpClient<B> {
    /// For `http:` URLs only.
    Plain(Client<HttpConnector, B>),
    /// For `https:` URLs only.
    #[cfg(feature = "tls")]
    Tls(Client<TimedConnector, B>),
}

/// How long to wait for a connection, unless another time is set. A peer on the same network accepts one in a
/// millisecond.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an unused connection stays in the pool: shorter than most servers keep one, so that it is rarely
/// closed just when it is used.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

impl<B> Clone for HttpClient<B> {
    fn clone(&self) -> Self {
        match self {
            Self::Plain(client) => Self::Plain(client.clone()),
            #[cfg(feature = "tls")]
            Self::Tls(client) => Self::Tls(client.clone()),
        }
    }
}

impl<B> HttpClient<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// A new client without TLS. With `connect_timeout`, it gives up connecting after that time.
    pub(crate) fn plain(connect_timeout: Option<Duration>) -> Self {
        Self::Plain(client(tcp(connect_timeout)))
    }

    /// A new client with these settings of TLS, which has no ALPN. It gives up connecting, with the TLS handshake,
    /// after `connect_timeout`.
    #[cfg(feature = "tls")]
    pub(crate) fn tls(connect_timeout: Duration, config: ClientConfig) -> Self {
        let mut tcp = tcp(Some(connect_timeout));
        tcp.enforce_http(false);
        let builder = HttpsConnectorBuilder::new().with_tls_config(config);
        let connector = builder.https_only().enable_http1().wrap_connector(tcp);
        Self::Tls(client(TimedConnector {
            connector,
            timeout: connect_timeout,
        }))
    }

    pub(crate) fn request(&self, request: Request<B>) -> ResponseFuture {
        match self {
            Self::Plain(client) => client.request(request),
            #[cfg(feature = "tls")]
            Self::Tls(client) => client.request(request),
        }
    }
}

fn client<C: Connect + Clone, B>(connector: C) -> Client<C, B>
where
    B: Body + Send,
    B::Data: Send,
{
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_timer(TokioTimer::new())
        .build(connector)
}

fn tcp(connect_timeout: Option<Duration>) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(connect_timeout);
    connector.set_nodelay(true);
    connector
}

/// Whether a request failed because its connection led to itself.
pub(crate) fn is_self_connection(error: &legacy::Error) -> bool {
    error.connect_info().is_some_and(has_one_end)
}

fn has_one_end(connection: &Connected) -> bool {
    let mut extras = Extensions::new();
    connection.get_extras(&mut extras);
    let ends: Option<&HttpInfo> = extras.get();
    ends.is_some_and(|ends| ends.local_addr() == ends.remote_addr())
}
