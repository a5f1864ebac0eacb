//! The connection to the servers of a stream, which reconnects by itself.

use std::slice;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::stream::Stream;
use async_nats::{Client, ConnectErrorKind, Event, ServerAddr, ServerInfo};
use futures_util::future::{join_all, select_ok};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::auth;
use super::client_options::{MAX_RECONNECT_DELAY, REQUEST_TIMEOUT, client_options};
use super::error::nats_error;
use super::url::NatsUrl;
use crate::error::Error;
use crate::util::log_limiter::LogLimiter;

/// A client, and the events of its connection.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    context: Context,
    losses: watch::Receiver<u64>,
    /// The last permission violation that a server has reported.
    permission_error: Arc<Mutex<Option<String>>>,
}

impl Connection {
    /// Connects to the first server of the URL that accepts.
    ///
    /// # Errors
    ///
    /// When none accepts, or a file of the URL can't be read.
    pub(super) async fn open(url: &NatsUrl) -> Result<Self, Error> {
        Self::open_within(url, Duration::ZERO).await
    }

    /// The same for servers that may be starting too: retries for `time` while none can be reached.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub(super) async fn open_within(url: &NatsUrl, time: Duration) -> Result<Self, Error> {
        Self::open_to(url, &url.servers, time).await
    }

    /// Connects to each other server of the URL that accepts now.
    pub(super) async fn connect_to_others(&self, url: &NatsUrl) -> Vec<Self> {
        if url.servers.len() < 2 {
            return Vec::new();
        }
        let this = self.client.server_info().server_id;
        let others = url
            .servers
            .iter()
            .map(|server| Self::open_to(url, slice::from_ref(server), Duration::ZERO));
        let others = join_all(others).await.into_iter().flatten();
        let is_other = |other: &Self| other.client.server_info().server_id != this;
        others.filter(is_other).collect()
    }

    /// Connects to the server of this name, at an address of the URL or one that the servers advertise. Returns as soon
    /// as it accepts, whatever other servers do.
    pub(super) async fn connect_to(&self, name: &str, url: &NatsUrl) -> Option<Self> {
        let servers = self.known_servers(url).await;
        let others = servers.iter().map(|server| {
            let opening = Self::open_to(url, slice::from_ref(server), Duration::ZERO);
            Box::pin(async {
                let other = opening.await.map_err(drop)?;
                let is_it = other.server().server_name == name;
                is_it.then_some(other).ok_or(())
            })
        });
        let (other, _) = select_ok(others).await.ok()?;
        Some(other)
    }

    /// Allows to reconnect to any server: those of the URL, and those that they advertise. False if that failed.
    pub(super) async fn allow_all_servers(&self, url: &NatsUrl) -> bool {
        let setting = async {
            let servers = self.known_servers(url).await;
            self.client.set_server_pool(&servers[..]).await.is_ok()
        };
        timeout(REQUEST_TIMEOUT, setting).await.unwrap_or(false)
    }

    /// The servers of the URL, and those that they advertise to clients.
    async fn known_servers(&self, url: &NatsUrl) -> Vec<ServerAddr> {
        let pool = timeout(REQUEST_TIMEOUT, self.client.server_pool()).await;
        let pool = pool.ok().and_then(Result::ok).unwrap_or_default();
        let pool = pool.into_iter().map(|server| server.addr);
        let mut servers = url.servers.clone();
        servers.extend(pool.filter(|server| !url.servers.contains(server)));
        servers
    }

    /// The server that it is connected to, or was last.
    pub(super) fn server(&self) -> ServerInfo {
        self.client.server_info()
    }

    /// The last permission violation that a server has reported.
    pub(super) fn permission_error(&self) -> Option<String> {
        let permission_error = self.permission_error.lock();
        permission_error
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How often it was connected so far.
    pub(super) fn connects(&self) -> u64 {
        let statistics = self.client.statistics();
        statistics.connects.load(Ordering::Acquire)
    }

    async fn open_to(url: &NatsUrl, servers: &[ServerAddr], time: Duration) -> Result<Self, Error> {
        let (lost, losses) = watch::channel(0);
        let lost = Arc::new(lost);
        let permission_error = Arc::new(Mutex::new(None));
        let last_error = Arc::clone(&permission_error);
        let limiter = Arc::new(LogLimiter::default());
        let stream = url.to_string();
        let options = client_options(url)?.event_callback(move |event| {
            if matches!(event, Event::Disconnected) {
                lost.send_modify(|losses| *losses += 1);
            }
            if let Some(text) = permission_error_of(&event) {
                *last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
            }
            let is_first = *lost.borrow() == 0;
            log_event(&event, is_first, &stream, &limiter);
            std::future::ready(())
        });
        let end = Instant::now() + time;
        let client = loop {
            match options.clone().connect(servers).await {
                Ok(client) => break client,
                Err(error) if is_unreachable(error.kind()) && Instant::now() < end => {
                    tokio::time::sleep(MAX_RECONNECT_DELAY).await;
                }
                Err(error) => {
                    let why = auth::describe_failure(&error, servers, url).await;
                    return Err(nats_error(url, "reach")(&why));
                }
            }
        };
        let context = ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .build(client.clone());
        Ok(Self {
            client,
            context,
            losses,
            permission_error,
        })
    }

    /// The JetStream API.
    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// The stream of a URL, whether it exists or not.
    pub(super) async fn stream(&self, url: &NatsUrl) -> Result<Stream<()>, Error> {
        let stream = self.context.get_stream_no_info(&url.stream).await;
        stream.map_err(|error| nats_error(url, "use")(&error))
    }

    pub(super) fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Reconnects, to any of the servers.
    pub(super) async fn reconnect(&self) {
        // It fails only when the connection is closed.
        let _ = self.client.force_reconnect().await;
    }

    /// A receiver that changes when the connection is lost.
    pub(super) fn losses(&self) -> watch::Receiver<u64> {
        let mut losses = self.losses.clone();
        losses.mark_unchanged();
        losses
    }
}

/// The permission violation that an event reports, if it does.
fn permission_error_of(event: &Event) -> Option<String> {
    let Event::ServerError(error) = event else {
        return None;
    };
    let text = error.to_string();
    let is_violation = text.to_ascii_lowercase().contains("permissions violation");
    is_violation.then_some(text)
}

/// Whether no server has answered: one that refuses the credentials will refuse them later too.
fn is_unreachable(kind: ConnectErrorKind) -> bool {
    matches!(
        kind,
        ConnectErrorKind::Io | ConnectErrorKind::TimedOut | ConnectErrorKind::Dns
    )
}

/// Logs an event of the connection, but not its first connect and its close.
fn log_event(event: &Event, is_first: bool, stream: &str, limiter: &LogLimiter) {
    if matches!(event, Event::Closed) || is_first && matches!(event, Event::Connected) {
        return;
    }
    let text = event.to_string();
    let Some(suppressed) = limiter.check(&text) else {
        return;
    };
    match event {
        Event::Connected => tracing::info!(stream, suppressed, "connected again"),
        _ => tracing::warn!(stream, suppressed, "the connection to the stream: {text}"),
    }
}
