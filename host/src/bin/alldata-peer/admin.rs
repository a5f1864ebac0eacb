//! `--admin-listen`: the listener for operators, from before the start of the server to after its end.

use std::net::SocketAddr;
use std::sync::Arc;

use alldata_peer_server_http::admin::{AdminOptions, AdminServer};
use alldata_peer_server_http::{Error, Monitor};

use crate::access::OpenAccess;
use crate::arguments::Serve;

/// Listens for operators, if that is asked for. On an address that other machines may reach, they need what clients
/// need.
pub(crate) async fn listen(
    arguments: &Serve,
    access: &OpenAccess,
    monitor: &Monitor,
) -> Result<Option<AdminServer>, Error> {
    let Some(address) = arguments.admin_listen else {
        return Ok(None);
    };
    let options = options(arguments, access, address);
    let admin = AdminServer::listen(address, monitor, options).await?;
    let (scheme, address) = (admin.scheme(), admin.local_addr());
    tracing::info!("listening for operators on {scheme}://{address}");
    Ok(Some(admin))
}

/// Checks the address for operators without listening on it.
pub(crate) fn check(arguments: &Serve, access: &OpenAccess) -> Result<(), Error> {
    match arguments.admin_listen {
        Some(address) => options(arguments, access, address).check_address(address),
        None => Ok(()),
    }
}

fn options(arguments: &Serve, access: &OpenAccess, address: SocketAddr) -> AdminOptions {
    let mut options = AdminOptions {
        shows_events: arguments.admin_show_events,
        ..AdminOptions::default()
    };
    if !address.ip().to_canonical().is_loopback() {
        if let Some(tokens) = &access.tokens {
            options.authorizer = Some(Arc::clone(tokens) as _);
        }
        #[cfg(feature = "tls")]
        options.tls.clone_from(&access.tls);
    }
    options
}
