//! The options of a listener for operators.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::error::Error;
use crate::server::auth::Authorizer;
#[cfg(feature = "tls")]
use crate::util::tls::TlsConfig;

/// The options of a listener for operators: its content, its authentication and its TLS.
#[derive(Clone, Default)]
pub struct AdminOptions {
    /// Whether the page shows the beginning of the last events, and not only their keys and sizes.
    pub shows_events: bool,
    /// Decides on each request. A request that it refuses gets 401. A browser sends its token as a password (HTTP Basic).
    pub authorizer: Option<Arc<dyn Authorizer>>,
    /// Has the listener speak TLS.
    #[cfg(feature = "tls")]
    pub tls: Option<TlsConfig>,
}

impl AdminOptions {
    /// Checks an address without listening on it.
    ///
    /// # Errors
    ///
    /// When the address is not loopback and operators are not authenticated.
    pub fn check_address(&self, address: SocketAddr) -> Result<(), Error> {
        if !is_loopback(address) && !self.authenticates() {
            return Err(Error::AdminAddress { address });
        }
        Ok(())
    }

    /// Whether operators are authenticated.
    pub(super) fn authenticates(&self) -> bool {
        #[cfg(feature = "tls")]
        if self
            .tls
            .as_ref()
            .is_some_and(TlsConfig::authenticates_clients)
        {
            return true;
        }
        self.authorizer.is_some()
    }

    pub(super) fn scheme(&self) -> &'static str {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return "https";
        }
        "http"
    }
}

/// Whether only this machine can reach an address.
pub(super) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

impl fmt::Debug for AdminOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AdminOptions")
            .field("shows_events", &self.shows_events)
            .finish_non_exhaustive()
    }
}
