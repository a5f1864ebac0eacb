//! `--admin-listen`: the listener for operators, from before the start of the server to after its end.

use alldata_peer_server_http::admin::{AdminOptions, AdminServer};
use alldata_peer_server_http::{Error, Monitor};

use crate::arguments::Serve;

/// Listens for operators, if that is asked for.
pub(crate) async fn listen(
    arguments: &Serve,
    monitor: &Monitor,
) -> Result<Option<AdminServer>, Error> {
    let Some(address) = arguments.admin_listen else {
        return Ok(None);
    };
    let options = AdminOptions {
        shows_events: arguments.admin_show_events,
    };
    let admin = AdminServer::listen(address, monitor, options).await?;
    let address = admin.local_addr();
    tracing::info!("listening for operators on http://{address}");
    Ok(Some(admin))
}
