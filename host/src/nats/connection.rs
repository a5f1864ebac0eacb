//! The connection to the servers of a stream, which comes again by itself when it is lost.
//!
//! Never sends an event.

use std::fs;
use std::path::Path;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::stream::Stream;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use futures_util::future::select_ok;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::nats_error;
use super::url::{Login, NatsUrl};
use crate::error::Error;
use crate::seldom::Seldom;

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

    /// Another connection, to the server of this name: the leader of a stream takes its events with
    /// less work for all servers than another that hands them on. `None` where this one is as good, or
    /// there is no other.
    pub(super) async fn to_leader(&self, leader: &str, url: &NatsUrl) -> Option<Self> {
        if url.servers.len() < 2 || self.client.server_info().server_name == leader {
            return None;
        }
        let others = url.servers.iter().map(|server| {
            let opening = Self::open_to(url, slice::from_ref(server), Duration::ZERO);
            Box::pin(async {
                let other = opening.await.map_err(drop)?;
                let is_leader = other.client.server_info().server_name == leader;
                is_leader.then_some(other).ok_or(())
            })
        });
        let (other, _) = select_ok(others).await.ok()?;
        let offering = timeout(REQUEST_TIMEOUT, other.offer_all(url));
        offering.await.ok()?.then_some(other)
    }

    /// When it is lost, any server will do: those of the URL, and those that it was told of.
    async fn offer_all(&self, url: &NatsUrl) -> bool {
        let told = self.client.server_pool().await.unwrap_or_default();
        let told = told.into_iter().map(|server| server.addr);
        let mut servers = url.servers.clone();
        servers.extend(told.filter(|server| !url.servers.contains(server)));
        self.client.set_server_pool(&servers[..]).await.is_ok()
    }

    async fn open_to(url: &NatsUrl, servers: &[ServerAddr], time: Duration) -> Result<Self, Error> {
        let (lost, losses) = watch::channel(0);
        let lost = Arc::new(lost);
        let said = Arc::new(Seldom::default());
        let stream = url.to_string();
        let options = options(url)?.event_callback(move |event| {
            if matches!(event, Event::Disconnected) {
                lost.send_modify(|losses| *losses += 1);
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
                Err(error) => return Err(nats_error(url, "reach")(&error)),
            }
        };
        let context = ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .build(client.clone());
        Ok(Self {
            client,
            context,
            losses,
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

/// Whether nobody has answered: who is not let in now is not let in later.
fn is_absence(kind: ConnectErrorKind) -> bool {
    matches!(
        kind,
        ConnectErrorKind::Io | ConnectErrorKind::TimedOut | ConnectErrorKind::Dns
    )
}

fn options(url: &NatsUrl) -> Result<ConnectOptions, Error> {
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|source| Error::File {
            operation: "read",
            path: path.to_owned(),
            source,
        })
    };
    let options = ConnectOptions::new()
        .name(env!("CARGO_PKG_NAME"))
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ping_interval(PING_INTERVAL)
        .reconnect_delay_callback(reconnect_delay);
    let mut options = match &url.login {
        Login::Nobody => options,
        Login::Password { user, password } => {
            options.user_and_password(user.clone(), password.clone())
        }
        Login::Token(token) => options.token(token.clone()),
        Login::Credentials(path) => {
            let credentials = options.credentials(&read(path)?);
            credentials.map_err(|source| Error::File {
                operation: "use",
                path: path.clone(),
                source,
            })?
        }
        Login::Nkey(path) => options.nkey(read(path)?.trim().to_owned()),
    };
    options = options.require_tls(url.tls.required || url.tls.first);
    if url.tls.first {
        options = options.tls_first();
    }
    if let Some(authorities) = &url.tls.authorities {
        options = options.add_root_certificates(authorities.clone());
    }
    if let Some((certificate, key)) = &url.tls.certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(options)
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
fn tell(event: &Event, is_first: bool, stream: &str, said: &Seldom) {
    if matches!(event, Event::Closed) || is_first && matches!(event, Event::Connected) {
        return;
    }
    let text = event.to_string();
    let Some(left_out) = said.say(&text) else {
        return;
    };
    match event {
        Event::Connected => tracing::info!(stream, left_out, "connected again"),
        _ => tracing::warn!(stream, left_out, "the connection to the stream: {text}"),
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
