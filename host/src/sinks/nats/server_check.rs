//! Checks that events may be sent to the server of a connection, which may be another one after each reconnect.

use super::connection::Connection;
use super::url::NatsUrl;
use super::version;

/// The result of the last check of a connection.
#[derive(Debug)]
pub(super) struct ServerCheck {
    url: NatsUrl,
    /// How often it had been connected at the last check.
    connects: u64,
    /// The id of the server, and the one that it gave the connection.
    server: (String, u64),
    fault: Option<String>,
}

impl ServerCheck {
    pub(super) fn new(connection: &Connection, url: &NatsUrl) -> Self {
        let connects = connection.connects();
        let server = connection.server();
        Self {
            url: url.clone(),
            connects,
            fault: version::unless_allowed(version::unsupported(&server), url),
            server: (server.server_id, server.client_id),
        }
    }

    /// The reason why nothing may be sent over `connection` now, if there is one.
    pub(super) fn fault(&mut self, connection: &Connection) -> Option<&str> {
        const NO_CONNECTION: Option<&str> = Some("there is no connection");
        if !connection.is_up() {
            return NO_CONNECTION;
        }
        let connects = connection.connects();
        if connects != self.connects {
            let server = connection.server();
            let found = (server.server_id.clone(), server.client_id);
            // The client knows the new server only a moment after it has reconnected.
            if found == self.server || connects != connection.connects() {
                return NO_CONNECTION;
            }
            self.fault = version::unless_allowed(version::unsupported(&server), &self.url);
            (self.connects, self.server) = (connects, found);
        }
        self.fault.as_deref()
    }
}
