//! Probes a stream at intervals: whether it exists, is the same, is safe, has all that it had, and which server leads
//! it.
//!
//! A task that runs as long as its sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::stream::Info;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::check::{check, is_missing, leader};
use super::connection::Connection;
use super::finding::{Finding, Probe, confirm};
use super::follow::LeaderAttempts;
use super::health::Health;
use super::identity::Identity;
use super::url::NatsUrl;
use super::version;
use crate::metrics::{Counter, Gauge};

/// How often a stream that takes events is probed, and one that does not.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
const UNHEALTHY_PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// How long a server may report no leader until another server is asked: it may be cut off from the others.
const MAX_LEADERLESS_TIME: Duration = Duration::from_secs(3);

/// What to do about a stream that may have lost events.
pub(super) const ADVICE: &str = "nothing is put any more until this server is started again; before that, run \
     `alldata-peer verify --all-replicas`, and see what the logs of the NATS servers say";

/// The known state of the stream of a sink.
pub(super) struct StreamWatcher {
    pub(super) url: NatsUrl,
    pub(super) identity: Identity,
    /// The last sequence number that is known; the stream never assigns one twice.
    pub(super) last: Arc<AtomicU64>,
    /// The highest number of messages that was reported.
    pub(super) messages: u64,
    pub(super) health: Arc<Health>,
    /// The connection in use: to the leader if that can be reached.
    pub(super) connection: watch::Sender<Connection>,
    pub(super) connects: Arc<PastConnects>,
}

/// What the watcher knows of the connections, for the metrics.
#[derive(Debug, Default)]
pub(super) struct PastConnects {
    /// How often the connections before the current one were connected.
    pub(super) before_current: Counter,
    /// Whether the last probe found a leader: 1 or 0.
    pub(super) has_leader: Gauge,
}

impl StreamWatcher {
    /// Probes until the stream is suspect.
    pub(super) async fn run(mut self) {
        let mut last = None;
        let mut leaderless_since = None;
        let mut regressed_since = None;
        let mut attempts = LeaderAttempts::default();
        let mut last_leader = None;
        while !self.health.is_suspect() {
            match self.health.needs_probes() || regressed_since.is_some() {
                false => drop(timeout(PROBE_INTERVAL, self.health.unhealthy()).await),
                true => sleep(UNHEALTHY_PROBE_INTERVAL).await,
            }
            let connection = self.connection.borrow().clone();
            let probed = self.probe(&connection).await;
            self.connects.has_leader.set(u64::from(probed.is_some()));
            let Some((found, info)) = probed else {
                regressed_since = None;
                // Another server may know the leader.
                let since = *leaderless_since.get_or_insert_with(Instant::now);
                if !connection.is_up() {
                    leaderless_since = None;
                } else if since.elapsed() >= MAX_LEADERLESS_TIME {
                    leaderless_since = None;
                    connection.reconnect().await;
                }
                continue;
            };
            leaderless_since = None;
            let leader = info.as_ref().and_then(leader).map(str::to_owned);
            if leader != last_leader {
                // A report of the leader before tells nothing of this one.
                (regressed_since, last_leader) = (None, leader);
            }
            let is_replicated = is_replicated(info.as_ref());
            let found = confirm(found, is_replicated, &mut regressed_since, Instant::now());
            let Some(found) = found else {
                continue;
            };
            if last.as_ref() != Some(&found) {
                self.log(&found, last.is_some());
            }
            self.health.record_probe(match &found {
                Finding::Fit => Probe::Fit,
                Finding::Unfit(_) | Finding::UnfitServer(_) => Probe::Unfit,
                Finding::Regressed(_) | Finding::Suspect(_) => Probe::Suspect,
            });
            if let (Finding::Fit, Some(info)) = (&found, &info) {
                self.last
                    .fetch_max(info.state.last_sequence, Ordering::Relaxed);
                self.messages = self.messages.max(info.state.messages);
                self.follow(&connection, info, &mut attempts).await;
            }
            if let Finding::UnfitServer(_) = &found {
                connection.reconnect().await;
            }
            last = Some(found);
        }
    }

    /// Probes once. `None` if no leader could be asked.
    async fn probe(&mut self, connection: &Connection) -> Option<(Finding, Option<Info>)> {
        if !connection.is_up() {
            return None;
        }
        if let Some(fault) = version::unsupported(&connection.server())
            && !self.url.unsafe_version
        {
            return Some((Finding::UnfitServer(fault), None));
        }
        // Read first: the answer may be older than an acknowledgement that comes meanwhile.
        let last = self.last.load(Ordering::Relaxed);
        let info = match connection.context().get_stream(&self.url.stream).await {
            Ok(stream) => stream.cached_info().clone(),
            Err(error) if is_missing(&error.kind()) => {
                return Some((Finding::Unfit("it is gone".to_owned()), None));
            }
            Err(_) => return None,
        };
        let found = self.judge(connection, &info, last)?;
        Some((found, Some(info)))
    }

    /// `last` is the last sequence number that was known before `info` was asked for.
    fn judge(&mut self, connection: &Connection, info: &Info, last: u64) -> Option<Finding> {
        // Without a leader other replicas answer, with their own state.
        if info.cluster.is_some() && leader(info).is_none() {
            return None;
        }
        if !self.identity.is_same(info) && !self.identity.may_be_emptied(info) {
            let why = "it is another than when this server started, or has lost all that it had";
            return Some(Finding::Suspect(why.to_owned()));
        }
        if let Err(error) = check(connection, info, &self.url) {
            return Some(Finding::Unfit(error.to_string()));
        }
        let state = &info.state;
        let why = if state.last_sequence < last {
            let found = state.last_sequence;
            format!("its last sequence is {found}, but {last} was stored before")
        } else if state.messages < self.messages {
            let (found, had) = (state.messages, self.messages);
            format!("it has {found} messages, but had {had}")
        } else {
            return Some(Finding::Fit);
        };
        let leader = leader(info).map(|name| format!(" (its leader is {name:?})"));
        let leader = leader.unwrap_or_default();
        Some(Finding::Regressed(format!(
            "it has lost what it had: {why}{leader}"
        )))
    }

    /// Connects to the leader if it is another server, and makes that the connection in use. Events in flight are
    /// finished on the old one.
    async fn follow(&self, connection: &Connection, info: &Info, attempts: &mut LeaderAttempts) {
        let Some(leader) = leader(info) else {
            return;
        };
        let is_connected = connection.server().server_name == leader;
        if is_connected || !attempts.is_due(leader, Instant::now()) {
            return;
        }
        let next = self.connect_to_leader(connection, leader).await;
        let is_first_failure = attempts.note(leader, next.is_some(), Instant::now());
        let stream = &self.url;
        match next {
            Some(next) => {
                tracing::info!(%stream, leader, "events go to the new leader");
                // Under the lock of the channel, so that no reader sees only one of both.
                self.connection.send_modify(|current| {
                    self.connects.before_current.add(current.connects());
                    *current = next;
                });
            }
            None if is_first_failure => {
                let server = connection.server().server_name;
                tracing::info!(
                    %stream, leader, server,
                    "the leader can't be connected to by any address of the URL, or that its servers advertise: events \
                     go to it through another server"
                );
            }
            None => {}
        }
    }

    async fn connect_to_leader(&self, connection: &Connection, name: &str) -> Option<Connection> {
        let next = connection.connect_to(name, &self.url).await?;
        let is_fit = self.url.unsafe_version || version::unsupported(&next.server()).is_none();
        (is_fit && next.allow_all_servers(&self.url).await).then_some(next)
    }

    fn log(&self, found: &Finding, is_again: bool) {
        let stream = &self.url;
        match found {
            Finding::Fit if is_again => {
                tracing::info!(%stream, "the stream is fit to put into again");
            }
            Finding::Fit => {}
            Finding::Unfit(why) | Finding::UnfitServer(why) => {
                tracing::error!(%stream, "the stream takes no events: {why}");
            }
            Finding::Regressed(why) | Finding::Suspect(why) => {
                tracing::error!(%stream, "the stream takes no events any more: {why}: {ADVICE}");
            }
        }
    }
}

/// Whether the stream has more than one replica, so that a stale leader is possible.
fn is_replicated(info: Option<&Info>) -> bool {
    let cluster = info.and_then(|info| info.cluster.as_ref());
    cluster.is_some_and(|cluster| !cluster.replicas.is_empty())
}
