//! Connects a sink: to the leader of its stream, after all servers of the URL and the stream were checked.

use std::time::Duration;

use async_nats::jetstream::stream::Info;

use super::check::leader;
use super::connection::Connection;
use super::error::nats_error;
use super::retry::Retry;
use super::stream::{check_publish_permission, prepare};
use super::url::NatsUrl;
use super::version;
use crate::error::Error;

/// How long to wait for servers that are started together with this program.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// A connection to put over, and the state of the stream.
///
/// # Errors
///
/// When no server accepts, one has an unsupported version, or the stream can't be used.
pub(super) async fn connect(url: &NatsUrl) -> Result<(Connection, Info), Error> {
    let retry = Retry::at_start();
    let connection = Connection::open_within(url, CONNECT_TIME).await?;
    let (connection, info) = choose(connection, url, retry).await?;
    check_publish_permission(&connection, url).await?;
    Ok((connection, info))
}

/// Chooses the connection to the leader, which takes events with less work for all servers than one that forwards them.
/// All servers of the URL have to be of supported versions.
async fn choose(
    connection: Connection,
    url: &NatsUrl,
    retry: Retry,
) -> Result<(Connection, Info), Error> {
    let others = connection.connect_to_others(url).await;
    for connection in others.iter().chain([&connection]) {
        let fault = version::unsupported(&connection.server());
        if let Some(fault) = version::unless_allowed(fault, url) {
            return Err(nats_error(url, "put into")(&fault));
        }
    }
    let info = prepare(&connection, url, retry).await?;
    if let Some(leader) = leader(&info)
        && connection.server().server_name != leader
        && let Some(other) = others
            .into_iter()
            .find(|other| other.server().server_name == leader)
        && other.allow_all_servers(url).await
    {
        // Whether the stream is safe also depends on the server.
        let info = prepare(&other, url, retry).await?;
        return Ok((other, info));
    }
    Ok((connection, info))
}
