//! Reads each replica of a stream, and moves its leader, for tests.
//!
//! A server is read while it leads, since only the leader responds.

use std::thread;
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::{LastRawMessageErrorKind, PeerInfo, Stream};
use async_nats::jetstream::{self, Context};
use async_nats::{Error, ServerAddr};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::runtime::Runtime;

use super::{Cluster, STREAM, node_name};
use crate::support::{DEADLINE, wait_until_within};

/// The number of messages of one request.
const IN_FLIGHT: usize = 64;

/// How long to wait for a server that has fewer messages than another.
const CATCH_UP_TIME: Duration = Duration::from_secs(10);

/// How long to wait for another leader before the step-down is repeated.
const STEP_DOWN_TIME: Duration = Duration::from_secs(5);

/// How long to wait for a leader, or for replicas that catch up. On a busy machine it may take minutes.
pub(crate) const ELECTION_DEADLINE: Duration = DEADLINE.saturating_mul(3);

/// How long to wait before servers are asked again for the leader.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The replicas of the stream of a cluster.
pub(crate) struct Replicas<'a> {
    cluster: &'a Cluster,
    runtime: Runtime,
    context: Context,
}

impl<'a> Replicas<'a> {
    pub(crate) fn of(cluster: &'a Cluster) -> Self {
        let runtime = Runtime::new().expect("starts a runtime");
        let servers = cluster.hosts();
        let servers = servers.split(',').map(str::parse);
        let servers: Vec<ServerAddr> = servers.map(|host| host.expect("is one")).collect();
        let context = runtime.block_on(async {
            let client = async_nats::connect(servers).await;
            jetstream::new(client.expect("connects"))
        });
        Self {
            cluster,
            runtime,
            context,
        }
    }

    /// The server that leads, as soon as one does.
    pub(crate) fn leader(&self) -> usize {
        let mut leader = None;
        wait_until_within(ELECTION_DEADLINE, "the stream has a leader", || {
            leader = self.cluster.leader(STREAM);
            leader.is_some()
        });
        leader.expect("was found")
    }

    /// Moves the leader to a server, without restarts.
    pub(crate) fn lead(&self, node: usize) {
        assert!(
            self.try_lead(node, ELECTION_DEADLINE),
            "the leader has not moved"
        );
    }

    /// Moves the leader to a server. Returns whether it leads within `deadline`.
    ///
    /// The server has to catch up first. One that is behind is not elected until it has caught up, and it can't catch up
    /// while each leader is made to step down. A server that does not catch up is made the leader anyway: it may lack
    /// messages for good.
    fn try_lead(&self, node: usize, deadline: Duration) -> bool {
        let start = Instant::now();
        let (mut last_leader, mut waiting_since) = (None, start);
        while start.elapsed() < deadline {
            let leader = self.cluster.leader(STREAM);
            if leader == Some(node) {
                return true;
            }
            if leader != last_leader {
                // Messages are copied from a leader only.
                (last_leader, waiting_since) = (leader, Instant::now());
            }
            if let Some(leader) = leader
                && (self.has_caught_up(node, leader) || waiting_since.elapsed() > CATCH_UP_TIME)
            {
                self.step_down(node);
                // Another server than the wanted one may lead then.
                self.wait_for_other(leader);
                last_leader = None;
            } else {
                thread::park_timeout(LOOK_AGAIN);
            }
        }
        false
    }

    /// Whether a server has all messages of the leader by its own report, and all replicas are current by the leader's. A
    /// replica is current for the leader as soon as it has the log, before it has applied it.
    fn has_caught_up(&self, node: usize, leader: usize) -> bool {
        self.cluster.has_caught_up(node, leader, STREAM)
            && self.runtime.block_on(may_move(&self.context, node))
    }

    /// Makes the leader step down in favour of a server: servers before 2.11 refuse the preference.
    fn step_down(&self, wanted: usize) {
        let wish = format!(r#"{{"placement":{{"preferred":"{}"}}}}"#, node_name(wanted));
        for request in [wish, String::new()] {
            let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{STREAM}");
            let client = self.context.client();
            let answer = self
                .runtime
                .block_on(client.request(subject, request.into()));
            // A server that does not respond is asked again.
            let Ok(answer) = answer else { return };
            let answer = String::from_utf8_lossy(&answer.payload).into_owned();
            if answer.contains("\"success\":true") {
                return;
            }
        }
    }

    /// All events of each server, in the order in which they were put. `None` if a server does not lead in time.
    pub(crate) fn events(&self) -> Option<Vec<Vec<(String, String)>>> {
        let (mut most, mut replicas) = (0, Vec::new());
        for node in 0..self.cluster.count() {
            let replica = self.events_of(node, most)?;
            most = most.max(replica.len());
            replicas.push(replica);
        }
        Some(replicas)
    }

    /// All events of the current leader; `None` if the stream is gone, or gets no leader.
    pub(crate) fn events_of_leader(&self) -> Option<Vec<(String, String)>> {
        let start = Instant::now();
        while start.elapsed() < ELECTION_DEADLINE {
            if self.cluster.leader(STREAM).is_some()
                && let Ok(events) = self.runtime.block_on(read(&self.context))
            {
                return Some(events);
            }
            thread::park_timeout(LOOK_AGAIN);
        }
        None
    }

    /// The events of one server. It is given time while these are fewer than another has.
    fn events_of(&self, node: usize, most: usize) -> Option<Vec<(String, String)>> {
        let mut leads_since = None;
        while leads_since.is_none_or(|since: Instant| since.elapsed() < DEADLINE) {
            if !self.try_lead(node, DEADLINE) {
                return None;
            }
            let since = *leads_since.get_or_insert_with(Instant::now);
            let Ok(events) = self.runtime.block_on(read(&self.context)) else {
                continue;
            };
            let is_late = since.elapsed() > CATCH_UP_TIME;
            if self.cluster.leader(STREAM) == Some(node) && (events.len() >= most || is_late) {
                return Some(events);
            }
        }
        None
    }

    /// Waits a while for another leader than this one.
    fn wait_for_other(&self, leader: usize) {
        let start = Instant::now();
        let is_other = || self.cluster.leader(STREAM).is_some_and(|it| it != leader);
        while start.elapsed() < STEP_DOWN_TIME && !is_other() {
            thread::park_timeout(LOOK_AGAIN);
        }
    }
}

/// Whether the leader may move to a server: its replica has all messages of the leader, and no other is
/// catching up.
async fn may_move(context: &Context, node: usize) -> bool {
    let Ok(stream) = context.get_stream(STREAM).await else {
        return false;
    };
    let cluster = stream.cached_info().cluster.as_ref();
    cluster.is_some_and(|cluster| {
        let is_current = |replica: &PeerInfo| replica.current && !replica.offline;
        let mut replicas = cluster.replicas.iter();
        replicas.clone().all(is_current)
            && replicas
                .any(|replica| replica.name == node_name(node) && replica.lag.unwrap_or(0) == 0)
    })
}

/// All events of the leader.
async fn read(context: &Context) -> Result<Vec<(String, String)>, Error> {
    let stream = context.get_stream(STREAM).await?;
    let state = &stream.cached_info().state;
    let numbers = state.first_sequence.max(1)..=state.last_sequence;
    let stream = &stream;
    let events = stream::iter(numbers).map(|number| event(stream, number));
    let events = events.buffered(IN_FLIGHT);
    events
        .try_filter_map(async |event| Ok(event))
        .try_collect()
        .await
}

/// The event with this sequence number, unless its message is gone.
async fn event(stream: &Stream, number: u64) -> Result<Option<(String, String)>, Error> {
    let message = match stream.get_raw_message(number).await {
        Ok(message) => message,
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let key = message.subject.strip_prefix("alldata.");
    let text = String::from_utf8(message.payload.to_vec())?;
    Ok(Some((key.ok_or("a subject of no key")?.to_owned(), text)))
}
