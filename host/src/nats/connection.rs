//! The connection to the servers of a stream, which comes again by itself when it is lost.
//!
//! Never sends an event.

use std::slice;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::stream::Stream;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr, ServerInfo};
use futures_util::future::{join_all, select_ok};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::nats_error;
use super::url::NatsUrl;
use super::{access, version};
use crate::error::Error;
use crate::util::log_limiter::LogLimiter;

/// How long to wait for one server, from its address to being let in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// After how long without a word from the server it is asked for one. After three times that it is
/// given up for another, so that one which hangs holds up puts for seconds, not for minutes.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// How long to wait for anything but the acknowledgement of an event.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The first and the longest wait before a server is tried again.
const MIN_RECONNECT_DELAY: Duration = Duration::from_millis(50);
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// A connection, and what it knows of itself.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    context: Context,
    losses: watch::Receiver<u64>,
    /// What the servers have said last that this login may not do.
    denied: Arc<Mutex<Option<String>>>,
}

/// Whether events may be sent to the server that a connection leads to, which may be another after each loss.
#[derive(Debug)]
pub(super) struct Gate {
    url: NatsUrl,
    /// How often it had been connected when the server was looked at.
    connects: u64,
    /// The server, and the number that it gave the connection.
    server: (String, u64),
    fault: Option<String>,
}

impl Connection {
    /// Connects to the first of the servers that lets one in.
    ///
    /// # Errors
    ///
    /// When none does, or a file of the URL can't be read.
    pub(super) async fn open(url: &NatsUrl) -> Result<Self, Error> {
        Self::open_within(url, Duration::ZERO).await
    }

    /// The same for servers that may be starting too: none that answers is tried again for so long.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub(super) async fn open_within(url: &NatsUrl, time: Duration) -> Result<Self, Error> {
        Self::open_to(url, &url.servers, time).await
    }

    /// A connection to each other server of the URL that lets one in now.
    pub(super) async fn others(&self, url: &NatsUrl) -> Vec<Self> {
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

    /// A connection to the other server of this name, as soon as that lets one in, whatever the others do: to one
    /// of the URL, or one that its servers have named.
    pub(super) async fn to_server(&self, name: &str, url: &NatsUrl) -> Option<Self> {
        let servers = self.known_servers(url).await;
        let others = servers.iter().map(|server| {
            let opening = Self::open_to(url, slice::from_ref(server), Duration::ZERO);
            Box::pin(async {
                let other = opening.await.map_err(drop)?;
                let is_wanted = other.server().server_name == name;
                is_wanted.then_some(other).ok_or(())
            })
        });
        let (other, _) = select_ok(others).await.ok()?;
        Some(other)
    }

    /// When it is lost, any server will do: those of the URL, and those that it was told of. Whether it
    /// knows them.
    pub(super) async fn offer_all(&self, url: &NatsUrl) -> bool {
        let offering = async {
            let servers = self.known_servers(url).await;
            self.client.set_server_pool(&servers[..]).await.is_ok()
        };
        timeout(REQUEST_TIMEOUT, offering).await.unwrap_or(false)
    }

    /// The servers of the URL, and those that they have named as where clients can connect to.
    async fn known_servers(&self, url: &NatsUrl) -> Vec<ServerAddr> {
        let told = timeout(REQUEST_TIMEOUT, self.client.server_pool()).await;
        let told = told.ok().and_then(Result::ok).unwrap_or_default();
        let told = told.into_iter().map(|server| server.addr);
        let mut servers = url.servers.clone();
        servers.extend(told.filter(|server| !url.servers.contains(server)));
        servers
    }

    /// The server that it leads to.
    pub(super) fn server(&self) -> ServerInfo {
        self.client.server_info()
    }

    /// What the servers have said last that this login may not do.
    pub(super) fn denied(&self) -> Option<String> {
        let denied = self.denied.lock();
        denied.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What keeps watch over which server it leads to.
    pub(super) fn gate(&self, url: &NatsUrl) -> Gate {
        let connects = self.connects();
        let server = self.server();
        Gate {
            url: url.clone(),
            connects,
            fault: version::unless_insisted(version::fault(&server), url),
            server: (server.server_id, server.client_id),
        }
    }

    fn connects(&self) -> u64 {
        let statistics = self.client.statistics();
        statistics.connects.load(Ordering::Acquire)
    }

    async fn open_to(url: &NatsUrl, servers: &[ServerAddr], time: Duration) -> Result<Self, Error> {
        let (lost, losses) = watch::channel(0);
        let lost = Arc::new(lost);
        let denied = Arc::new(Mutex::new(None));
        let noted = Arc::clone(&denied);
        let said = Arc::new(LogLimiter::default());
        let stream = url.to_string();
        let options = options(url)?.event_callback(move |event| {
            if matches!(event, Event::Disconnected) {
                lost.send_modify(|losses| *losses += 1);
            }
            if let Some(text) = denial(&event) {
                *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
            }
            let is_first = *lost.borrow() == 0;
            tell(&event, is_first, &stream, &said);
            std::future::ready(())
        });
        let end = Instant::now() + time;
        let client = loop {
            match options.clone().connect(servers).await {
                Ok(client) => break client,
                Err(error) if is_absence(error.kind()) && Instant::now() < end => {
                    tokio::time::sleep(MAX_RECONNECT_DELAY).await;
                }
                Err(error) => {
                    let why = access::explain(&error, servers, url).await;
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
            denied,
        })
    }

    /// What administers streams.
    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// The stream of a URL, whether it is there or not.
    pub(super) async fn stream(&self, url: &NatsUrl) -> Result<Stream<()>, Error> {
        let stream = self.context.get_stream_no_info(&url.stream).await;
        stream.map_err(|error| nats_error(url, "use")(&error))
    }

    pub(super) fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Connects again, to any of the servers.
    pub(super) async fn choose_another(&self) {
        // It fails only where the connection is at its end.
        let _ = self.client.force_reconnect().await;
    }

    /// What tells when the connection is lost: it has changed then.
    pub(super) fn losses(&self) -> watch::Receiver<u64> {
        let mut losses = self.losses.clone();
        losses.mark_unchanged();
        losses
    }
}

impl Gate {
    /// Why nothing may be sent now over the connection that this watches over, if so.
    pub(super) fn fault(&mut self, connection: &Connection) -> Option<&str> {
        const NO_CONNECTION: Option<&str> = Some("there is no connection");
        if !connection.is_up() {
            return NO_CONNECTION;
        }
        let connects = connection.connects();
        if connects != self.connects {
            let server = connection.server();
            let found = (server.server_id.clone(), server.client_id);
            // What is told of a server comes a moment after the connection to it, and is of the last one
            // until then.
            if found == self.server || connects != connection.connects() {
                return NO_CONNECTION;
            }
            self.fault = version::unless_insisted(version::fault(&server), &self.url);
            (self.connects, self.server) = (connects, found);
        }
        self.fault.as_deref()
    }
}

/// What a server says that somebody may not do, if it says that.
fn denial(event: &Event) -> Option<String> {
    let Event::ServerError(error) = event else {
        return None;
    };
    let text = error.to_string();
    let is_denial = text.to_ascii_lowercase().contains("permissions violation");
    is_denial.then_some(text)
}

/// Whether nobody has answered: who is not let in now is not let in later.
fn is_absence(kind: ConnectErrorKind) -> bool {
    matches!(
        kind,
        ConnectErrorKind::Io | ConnectErrorKind::TimedOut | ConnectErrorKind::Dns
    )
}

fn options(url: &NatsUrl) -> Result<ConnectOptions, Error> {
    let options = ConnectOptions::new()
        .name(env!("CARGO_PKG_NAME"))
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ping_interval(PING_INTERVAL)
        .reconnect_delay_callback(reconnect_delay);
    access::add(options, url)
}

/// How long to wait before the next attempt, of which so many have failed.
fn reconnect_delay(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(2)).unwrap_or(u32::MAX);
    match attempts {
        0 | 1 => Duration::ZERO,
        _ => MIN_RECONNECT_DELAY
            .saturating_mul(2_u32.saturating_pow(doublings))
            .min(MAX_RECONNECT_DELAY),
    }
}

/// Says what is news: not that a connection begins or ends with the sink.
fn tell(event: &Event, is_first: bool, stream: &str, said: &LogLimiter) {
    if matches!(event, Event::Closed) || is_first && matches!(event, Event::Connected) {
        return;
    }
    let text = event.to_string();
    let Some(suppressed) = said.check(&text) else {
        return;
    };
    match event {
        Event::Connected => tracing::info!(stream, suppressed, "connected again"),
        _ => tracing::warn!(stream, suppressed, "the connection to the stream: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_RECONNECT_DELAY, MIN_RECONNECT_DELAY, reconnect_delay};

    #[test]
    fn attempts_become_seldom_but_never_end() {
        assert!(reconnect_delay(1).is_zero());
        assert_eq!(reconnect_delay(2), MIN_RECONNECT_DELAY);
        assert_eq!(reconnect_delay(3), 2 * MIN_RECONNECT_DELAY);
        assert_eq!(reconnect_delay(usize::MAX), MAX_RECONNECT_DELAY);
    }
}
