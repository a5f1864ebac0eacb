//! A listener for operators, on an address of its own: health and metrics of a server over HTTP.
//!
//! It has small limits of its own, so that nobody who looks at a server slows it down.

mod access;
mod connection;
mod content;
mod exposition;
mod families;
mod options;
mod page;
mod process;
mod routes;
mod server_families;
mod sink_families;
mod status;

pub use options::AdminOptions;
pub use prometheus_client;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::admin::routes::Routes;
use crate::error::Error;
use crate::server::Monitor;

/// How many connections are served at a time: some scrapers, health checks and pages. Further ones are closed.
const MAX_CONNECTIONS: usize = 64;

/// The pause after an error of `accept`, so that a persistent one does not keep a processor busy.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener for operators: `/livez`, `/readyz`, `/metrics`, and a page at `/`.
///
/// It can be made before the server, with a [`Monitor`] that is given to the server later. Dropped, it stops.
///
/// The durations of requests are observed from its start on, as after [`Monitor::register`].
#[must_use = "a listener that is dropped stops"]
pub struct AdminServer {
    address: SocketAddr,
    scheme: &'static str,
    _accepting: AbortOnDropHandle<()>,
}

impl AdminServer {
    /// Listens on `address`, on the Tokio runtime that this is awaited in.
    ///
    /// # Errors
    ///
    /// When the address is not loopback and operators are not authenticated, or when it cannot be listened on.
    pub async fn listen(
        address: SocketAddr,
        monitor: &Monitor,
        options: AdminOptions,
    ) -> Result<Self, Error> {
        options.check_address(address)?;
        let fail = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let scheme = options.scheme();
        let routes = Arc::new(Routes::new(
            monitor.clone(),
            options,
            options::is_loopback(address),
        ));
        let accepting = tokio::spawn(accept(listener, routes));
        Ok(Self {
            address,
            scheme,
            _accepting: AbortOnDropHandle::new(accepting),
        })
    }

    /// The scheme of its URLs: `https` if it speaks TLS, or else `http`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// The address that it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl fmt::Debug for AdminServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AdminServer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

async fn accept(listener: TcpListener, routes: Arc<Routes>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let (stream, peer): (TcpStream, SocketAddr) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection of an operator");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            continue;
        };
        let routes = Arc::clone(&routes);
        tokio::spawn(async move {
            connection::accept(stream, peer, routes).await;
            drop(permit);
        });
    }
}
