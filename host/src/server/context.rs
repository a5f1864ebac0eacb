//! The data that all connections of a server share, and the data of one connection.
//!
//! A connection refers to its context by a reference count of its own. Counting references to the shared
//! data for each request would have connections on several processors wait for one cache line.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::component::loaded_component::EntryPoint;
use crate::limits::Limits;
use crate::metrics::server_metrics::ServerMetrics;
use crate::server::auth::{Authorizer, Identity};
use crate::server::body_quota::{BodyLimits, BodyQuota};
use crate::server::connection_state::ConnectionState;
use crate::server::refusal_log::RefusalLog;
use crate::sink::dispatcher::{ConnectionDispatcher, SinkDispatcher};

/// How often idle instances are dropped. After a burst, all of them are dropped within twice that time.
const TRIM_INTERVAL: Duration = Duration::from_secs(10);

/// The data that all connections of a server share.
pub(crate) struct ServerContext {
    pub(crate) limits: Limits,
    pub(crate) entry_point: EntryPoint,
    pub(crate) dispatcher: SinkDispatcher,
    pub(crate) body_limits: BodyLimits,
    pub(crate) body_quota: BodyQuota,
    /// The time-out of a request to a component with a sink of its own, since the server cannot apply a
    /// time-out to that sink.
    pub(crate) request_timeout: Option<Duration>,
    /// `None` if every client may put.
    pub(crate) authorizer: Option<Arc<dyn Authorizer>>,
    pub(crate) refusals: Arc<RefusalLog>,
    pub(crate) metrics: Arc<ServerMetrics>,
    /// The tasks of connections, and of work that outlives them.
    pub(crate) tasks: TaskTracker,
    /// See [`ConnectionState::last_responses`].
    pub(crate) last_responses: Arc<AtomicUsize>,
}

/// The data of one connection.
pub(crate) struct ConnectionContext {
    pub(crate) server: Arc<ServerContext>,
    pub(crate) dispatcher: ConnectionDispatcher,
    pub(crate) state: Arc<ConnectionState>,
    /// The address of the client; `None` for a connection that was accepted elsewhere.
    pub(crate) peer: Option<SocketAddr>,
    /// Whether the server speaks TLS on it.
    pub(crate) is_tls: bool,
    /// Who sent the current request. Locked by the requests of this connection only, which come one at a time.
    client: Mutex<Option<Identity>>,
}

impl ConnectionContext {
    /// Sets who sent the current request.
    pub(crate) fn set_client(&self, client: Option<Identity>) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
    }

    /// Who sent the current request, if clients are authenticated by the authorizer.
    pub(crate) fn client(&self) -> Option<Identity> {
        // The value is replaced as a whole, so a poisoned lock is still good.
        let client = self.client.lock();
        client.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerContext {
    /// The context of a new connection.
    pub(crate) fn connection(
        self: &Arc<Self>,
        peer: Option<SocketAddr>,
        is_tls: bool,
    ) -> Arc<ConnectionContext> {
        Arc::new(ConnectionContext {
            server: Arc::clone(self),
            dispatcher: ConnectionDispatcher::new(self.dispatcher.clone()),
            state: Arc::new(ConnectionState::new(
                self.tasks.clone(),
                Arc::clone(&self.last_responses),
            )),
            peer,
            is_tls,
            client: Mutex::default(),
        })
    }

    /// Drops instances that are not needed, from time to time, for as long as the server exists.
    pub(crate) fn trim_in_background(self: &Arc<Self>) {
        let (context, tasks) = (Arc::downgrade(self), self.tasks.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(TRIM_INTERVAL).await;
                // Taken before the check: a server that closes waits for the token, so that the context, and
                // with it the sink, is not dropped after the server.
                let token = tasks.token();
                if tasks.is_closed() {
                    return;
                }
                let Some(context) = context.upgrade() else {
                    return;
                };
                // Unmapping the memory of many instances blocks.
                let trimmed = tokio::task::spawn_blocking(move || {
                    context.entry_point.trim();
                    drop(context);
                    drop(token);
                });
                if let Err(error) = trimmed.await {
                    tracing::error!(%error, "idle instances were not dropped");
                }
            }
        });
    }
}
