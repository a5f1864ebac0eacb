//! Accepts the connections of the listeners, and admits each of them: within the limits, and with the address that a
//! trusted proxy tells by the PROXY protocol.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::server::connection_limiter::{AddressPermit, ConnectionLimiter};
use crate::server::context::{ConnectionContext, ConnectionOrigin, ServerContext};
use crate::server::listener::Listener;
use crate::server::preamble::{self, Preamble};
use crate::server::proxy_protocol::{self, HeaderError, ProxiedClient};
use crate::server::shutdown::{Phase, Shutdown};
use crate::server::stream::Stream;
use crate::server::transport::Transport;
use crate::util::log_limiter::LogLimiter;

/// The data that the tasks of a server share.
#[derive(Clone)]
pub(crate) struct Admission {
    pub(crate) context: Arc<ServerContext>,
    pub(crate) shutdown: Arc<Shutdown>,
    pub(crate) connections: Arc<ConnectionLimiter>,
    pub(crate) transport: Arc<Transport>,
    invalid_headers: Arc<LogLimiter>,
}

impl Admission {
    pub(crate) fn new(context: Arc<ServerContext>, transport: Transport) -> Self {
        Self {
            connections: Arc::new(ConnectionLimiter::new(&context.limits)),
            context,
            shutdown: Arc::default(),
            transport: Arc::new(transport),
            invalid_headers: Arc::default(),
        }
    }

    /// The tasks of the server.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.context.tasks
    }

    /// Accepts connections until the shutdown, and then those that the system has accepted by then. When there
    /// are as many as allowed, and none of them is idle, the next one waits, and further ones wait in the
    /// system's queue.
    pub(crate) async fn accept(self, mut listener: Listener) {
        loop {
            let accepting = listener.accept();
            let Some((stream, peer)) = self.shutdown.run_until(Phase::Draining, accepting).await
            else {
                break;
            };
            self.admit(stream, peer).await;
        }
        for (stream, peer) in listener.close() {
            self.admit(stream, peer).await;
        }
    }

    /// Serves a connection in a task of its own, once it has a permit.
    async fn admit(&self, mut stream: Stream, peer: Option<SocketAddr>) {
        let is_unix = stream.is_unix();
        let origin = ConnectionOrigin { peer, is_unix };
        let context = self.context.connection(origin, self.transport.is_tls(peer));
        let is_of_proxy = context.is_of_proxy();
        // The connections of a proxy have the requests of many clients.
        let address = peer.map(|peer| peer.ip()).filter(|_| !is_of_proxy);
        let admitted = ConnectionLimiter::admit(&self.connections, address, &context.state);
        // During the shutdown it waits as long as the connections with permits are awaited.
        let admitted = self.shutdown.run_until(Phase::Aborting, admitted).await;
        let Some(Some(permit)) = admitted else {
            self.context.metrics.connections_refused.increment();
            return;
        };
        let shared = self.clone();
        self.tasks().spawn(async move {
            let mut client_permit = None;
            let proxies = shared.context.proxies.as_ref();
            if is_of_proxy && proxies.is_some_and(|proxies| proxies.proxy_protocol) {
                // Boxed, since its size would be part of every connection's future.
                let reading = Box::pin(shared.read_proxy_header(&mut stream, &context));
                let Some(read) = reading.await else { return };
                client_permit = read;
            }
            let (transport, shutdown) = (&shared.transport, &shared.shutdown);
            let connections = &shared.connections;
            transport
                .serve(stream, peer, context, shutdown, connections)
                .await;
            drop(client_permit);
            drop(permit);
        });
    }

    /// Reads the header of the PROXY protocol, and has the connection count for the address of its client. `None` if the
    /// connection is to be closed.
    async fn read_proxy_header(
        &self,
        stream: &mut Stream,
        context: &ConnectionContext,
    ) -> Option<Option<AddressPermit>> {
        let state = &context.state;
        let reading = proxy_protocol::read_header(stream, state);
        let client = match preamble::run(context, &self.shutdown, reading).await? {
            Preamble::Done(Ok(client)) => client,
            Preamble::Done(Err(HeaderError::Closed)) => {
                tracing::debug!("a proxy closed its connection before its first byte");
                return None;
            }
            Preamble::Done(Err(error)) => {
                self.log_invalid_header(context, &error.to_string());
                return None;
            }
            Preamble::TimedOut => {
                self.log_invalid_header(
                    context,
                    "its header did not arrive in time (--header-read-timeout)",
                );
                return None;
            }
            Preamble::Evicted => return None,
        };
        state.end_preamble();
        context.set_proxied(client);
        let ProxiedClient::Address(address) = client else {
            return Some(None);
        };
        if context.is_of_proxy() {
            return Some(None);
        }
        let permit = ConnectionLimiter::admit_client(&self.connections, address.ip());
        if permit.is_none() {
            self.context.metrics.connections_refused.increment();
        }
        permit
    }

    fn log_invalid_header(&self, context: &ConnectionContext, error: &str) {
        self.context.metrics.proxy_headers_invalid.increment();
        if let Some(suppressed) = self.invalid_headers.check(error) {
            let proxy = context.peer().map(tracing::field::display);
            tracing::warn!(
                proxy,
                error,
                suppressed,
                "a connection of a trusted proxy was closed (--proxy-protocol)"
            );
        }
    }
}
