//! The data that all connections of a server share, and the data of one connection.
//!
//! A connection refers to its context by a reference count of its own. Counting references to the shared
//! data for each request would have connections on several processors wait for one cache line.

use std::hash::RandomState;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, Uri};
use tokio_util::task::TaskTracker;

use crate::component::loaded_component::EntryPoint;
use crate::limits::Limits;
use crate::metrics::server_metrics::ServerMetrics;
use crate::server::access_log::AccessLog;
use crate::server::auth::Authorizer;
use crate::server::body_quota::{BodyLimits, BodyQuota};
use crate::server::connection_state::ConnectionState;
use crate::server::present_fields::PresentFields;
use crate::server::proxy_protocol::ProxiedClient;
use crate::server::refusal_log::{RefusalLog, RequestInfo};
use crate::server::trusted_proxies::{Origin, TrustedProxies};
use crate::sink::PutContext;
use crate::sink::dispatcher::{ConnectionDispatcher, SinkDispatcher};
use crate::util::identity::Identity;
use crate::util::request_id::RequestId;

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
    pub(crate) access_log: Option<AccessLog>,
    /// `None` if no proxy is trusted.
    pub(crate) proxies: Option<TrustedProxies>,
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
    /// The other end; `None` for a connection that was accepted elsewhere, and for one of a Unix socket.
    peer: Option<SocketAddr>,
    /// The client by the header of the PROXY protocol.
    proxied: OnceLock<ProxiedClient>,
    is_unix: bool,
    /// Whether the server speaks TLS on it.
    pub(crate) is_tls: bool,
    /// Makes the ids of its requests.
    id_keys: RandomState,
    /// Locked by the requests of this connection only, which come one at a time.
    request: Mutex<CurrentRequest>,
    /// Whether `request` may have any data, so that most requests need not lock it.
    has_request_data: AtomicBool,
}

/// The other end of a connection; nothing for one that was accepted elsewhere.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ConnectionOrigin {
    /// The address of a TCP client.
    pub(crate) peer: Option<SocketAddr>,
    /// Whether it is of a Unix socket of the server.
    pub(crate) is_unix: bool,
}

/// The data of the current request of a connection.
#[derive(Default)]
struct CurrentRequest {
    /// `None` if the request has none: then its id is made when it is needed.
    trace_id: Option<RequestId>,
    /// The address of the client by the field of a trusted proxy.
    forwarded_for: Option<IpAddr>,
    client: Option<Identity>,
}

impl ConnectionContext {
    /// Begins a request, with these header fields. Its client is not known yet.
    pub(crate) fn begin_request(&self, headers: &HeaderMap, fields: PresentFields) {
        let proxies = self.server.proxies.as_ref();
        let has_trace_id = fields.traceparent;
        let has_data = has_trace_id || proxies.is_some();
        if !has_data && !self.has_request_data.load(Ordering::Relaxed) {
            return;
        }
        *self.request_mut() = CurrentRequest {
            trace_id: has_trace_id
                .then(|| RequestId::from_traceparent(headers))
                .flatten(),
            forwarded_for: proxies.and_then(|proxies| proxies.client_ip(self.origin(), headers)),
            client: None,
        };
        self.has_request_data.store(has_data, Ordering::Relaxed);
    }

    /// Sets the client by the header of the PROXY protocol.
    pub(crate) fn set_proxied(&self, client: ProxiedClient) {
        let _ = self.proxied.set(client);
    }

    /// The other end of the connection, or the address that the PROXY protocol tells.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        match self.proxied.get() {
            Some(ProxiedClient::Address(address)) => Some(*address),
            Some(ProxiedClient::Proxy | ProxiedClient::Unknown) | None => self.peer,
        }
    }

    /// The address of the client of the current request.
    pub(crate) fn client_ip(&self) -> Option<IpAddr> {
        let forwarded_for = self.request().forwarded_for;
        forwarded_for.or_else(|| self.peer().map(|peer| peer.ip().to_canonical()))
    }

    /// Whether the other end, or the address that the PROXY protocol tells, is a trusted proxy.
    pub(crate) fn is_of_proxy(&self) -> bool {
        let proxies = self.server.proxies.as_ref();
        proxies.is_some_and(|proxies| proxies.trusts(self.origin()))
    }

    fn origin(&self) -> Origin {
        if self.proxied.get() == Some(&ProxiedClient::Unknown) {
            // The requests are the client's, and with them the fields that could tell its address.
            return Origin::Unknown;
        }
        match self.peer() {
            Some(peer) => Origin::Ip(peer.ip()),
            None if self.is_unix => Origin::Unix,
            None => Origin::Unknown,
        }
    }

    /// Sets who sent the current request.
    pub(crate) fn set_client(&self, client: Identity) {
        self.request_mut().client = Some(client);
    }

    /// Sets the id of the current request, whose trace is recorded.
    #[cfg(feature = "otlp")]
    pub(crate) fn set_trace_id(&self, id: RequestId) {
        self.request_mut().trace_id = Some(id);
    }

    /// The current request, for the log. Its client is known if the authorizer has authenticated it.
    pub(crate) fn request_info(&self) -> RequestInfo {
        RequestInfo {
            id: self.request_id(),
            address: self.client_ip(),
            client: self.request().client.clone(),
        }
    }

    /// Bytes of the connection that are not a request, for the log.
    pub(crate) fn unparsed_info(&self) -> RequestInfo {
        RequestInfo {
            id: RequestId::random(),
            address: self.peer().map(|peer| peer.ip().to_canonical()),
            client: None,
        }
    }

    /// The context of a put in the current request, which has this target and these header fields.
    pub(crate) fn put_context(&self, uri: Uri, mut headers: HeaderMap) -> Box<PutContext> {
        if self.server.authorizer.is_some() {
            // The credentials are for this server.
            headers.remove(AUTHORIZATION);
        }
        Box::new(PutContext {
            request_id: self.request_id(),
            peer: self.peer(),
            client_ip: self.client_ip(),
            client: self.request().client.clone(),
            uri,
            headers,
        })
    }

    /// The id of the current request.
    pub(crate) fn request_id(&self) -> RequestId {
        let made = || RequestId::of_request(&self.id_keys, self.state.requests_started());
        self.request().trace_id.unwrap_or_else(made)
    }

    /// The data of the current request, to change it.
    fn request_mut(&self) -> MutexGuard<'_, CurrentRequest> {
        self.has_request_data.store(true, Ordering::Relaxed);
        self.request()
    }

    /// Each change leaves the value consistent, so a poisoned lock is still good.
    fn request(&self) -> MutexGuard<'_, CurrentRequest> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerContext {
    /// The context of a new connection.
    pub(crate) fn connection(
        self: &Arc<Self>,
        origin: ConnectionOrigin,
        is_tls: bool,
    ) -> Arc<ConnectionContext> {
        self.context(origin, is_tls, Arc::clone(&self.last_responses))
    }

    /// The context of one request on a connection of another HTTP server.
    pub(crate) fn detached_request(
        self: &Arc<Self>,
        peer: Option<SocketAddr>,
        is_tls: bool,
    ) -> Arc<ConnectionContext> {
        let origin = ConnectionOrigin {
            peer,
            is_unix: false,
        };
        self.context(origin, is_tls, Arc::default())
    }

    fn context(
        self: &Arc<Self>,
        ConnectionOrigin { peer, is_unix }: ConnectionOrigin,
        is_tls: bool,
        last_responses: Arc<AtomicUsize>,
    ) -> Arc<ConnectionContext> {
        let state = ConnectionState::new(self.tasks.clone(), last_responses);
        Arc::new(ConnectionContext {
            server: Arc::clone(self),
            dispatcher: ConnectionDispatcher::new(self.dispatcher.clone()),
            state: Arc::new(state),
            peer,
            proxied: OnceLock::new(),
            is_unix,
            is_tls,
            id_keys: RandomState::new(),
            request: Mutex::default(),
            has_request_data: AtomicBool::new(false),
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
