//! The HTTP/1.1 client of the host: its settings, and the check for a connection to itself.
//!
//! Where no process listens on a port, the system may choose that port for the client's end of the connection,
//! and then connects the socket to itself (TCP simultaneous open). The client would read its own request as the
//! response. This concerns only ports from the range that the system chooses for clients.

use std::time::Duration;

use hyper::body::Body;
use hyper::http::Extensions;
use hyper_util::client::legacy;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, HttpConnector, HttpInfo};
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// A client with a pool of connections, which its clones share.
pub(crate) type HttpClient<B> = Client<HttpConnector, B>;

/// How long to wait for a connection, unless another time is set. A peer on the same network accepts one in a
/// millisecond.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an unused connection stays in the pool: shorter than most servers keep one, so that it is rarely
/// closed just when it is used.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A new client. With `connect_timeout`, it gives up connecting after that time.
pub(crate) fn new<B>(connect_timeout: Option<Duration>) -> HttpClient<B>
where
    B: Body + Send,
    B::Data: Send,
{
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(connect_timeout);
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_timer(TokioTimer::new())
        .build(connector)
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
