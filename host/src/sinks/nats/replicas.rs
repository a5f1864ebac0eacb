//! The replicas of a stream, each read from its own server.
//!
//! A consumer with one replica delivers the messages of the server that it is on, whichever server leads the stream.
//! The servers place it at random, so consumers are created until each server has one.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, Consumer};
use async_nats::jetstream::stream::{Info, Stream};
use tokio::time::{Instant, sleep, timeout};

use super::error::nats_error;
use super::url::NatsUrl;
use crate::error::Error;

/// How many consumers are created at the most until each replica has one: with five replicas 999 of 1000 times each
/// has one then.
const MAX_CONSUMERS: usize = 40;

/// How many attempts to create one may fail.
const MAX_FAILURES: usize = 3;

/// After how long without a request servers delete a consumer that was left behind.
const INACTIVE_TIME: Duration = Duration::from_secs(60);

/// The time-out for deleting one, for which the credentials may lack permission.
const DELETE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a replica may take to catch up, and how often it is asked.
pub(super) const CATCH_UP_TIME: Duration = Duration::from_secs(10);
pub(super) const PAUSE: Duration = Duration::from_millis(200);

/// The result of comparing the replicas of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replicas {
    /// The differences: a line for each.
    pub faults: Vec<String>,
    /// The replicas that could not be read: a line for each server, and one for those that the leader does not name.
    pub unread: Vec<String>,
}

/// A replica, and a consumer on its server.
pub(super) struct Replica {
    pub(super) name: String,
    pub(super) consumer: Consumer<Config>,
    /// How many messages it has.
    pub(super) messages: u64,
}

/// Creates a consumer on each replica, and waits until they have caught up with `info` or the time for that is over.
/// Returns them, and a line for each replica that can't be read.
///
/// # Errors
///
/// When none can be read.
pub(super) async fn open_replicas(
    stream: &Stream<()>,
    info: &Info,
    url: &NatsUrl,
) -> Result<(Vec<Replica>, Vec<String>), Error> {
    let fail = nats_error(url, "read");
    let mut unread = names(info);
    let unnamed = info.config.num_replicas.saturating_sub(unread.len());
    let mut replicas = Vec::new();
    let (mut failures, mut may_delete) = (0, true);
    for _ in 0..MAX_CONSUMERS {
        if unread.is_empty() {
            break;
        }
        let consumer = match stream.create_consumer(config()).await {
            Ok(consumer) => consumer,
            // The servers may have placed it on one that does not answer.
            Err(_) if failures < MAX_FAILURES => {
                failures += 1;
                continue;
            }
            Err(_) if !replicas.is_empty() => break,
            Err(error) => return Err(fail(&error)),
        };
        let position = match &consumer.cached_info().cluster {
            None => Some(0),
            // Without a leader it is on a server that can't be reached, which is not known.
            Some(cluster) => unread
                .iter()
                .position(|name| cluster.leader.as_ref() == Some(name)),
        };
        match position {
            Some(position) => replicas.push(Replica {
                name: unread.swap_remove(position),
                messages: consumer.cached_info().num_pending,
                consumer,
            }),
            None => {
                may_delete =
                    may_delete && delete_consumer(stream, &consumer.cached_info().name).await;
            }
        }
    }
    let end = Instant::now() + CATCH_UP_TIME;
    for replica in &mut replicas {
        let caught_up = replica.catch_up(info.state.messages, end).await;
        caught_up.map_err(|error| fail(&error))?;
    }
    replicas.sort_by(|one, other| one.name.cmp(&other.name));
    unread.sort();
    let mut lines: Vec<String> = unread
        .iter()
        .map(|name| format!("the replica on {name:?} can't be read"))
        .collect();
    if unnamed > 0 {
        let all = info.config.num_replicas;
        lines.push(format!(
            "{unnamed} of {all} replicas can't be read: the leader of the stream does not name their servers"
        ));
    }
    Ok((replicas, lines))
}

/// A line for each replica that has fewer messages than the stream.
pub(super) fn lagging(replicas: &[Replica], info: &Info) -> Vec<String> {
    let expected = info.state.messages;
    let lagging = replicas
        .iter()
        .filter(|replica| replica.messages < expected);
    let line = |replica: &Replica| {
        let Replica { name, messages, .. } = replica;
        format!("the replica on {name:?} has {messages} of {expected} messages")
    };
    lagging.map(line).collect()
}

/// A line for each replica that has more messages than the leader reported later.
pub(super) fn ahead(replicas: &[Replica], info: &Info) -> Vec<String> {
    let known = info.state.messages;
    let ahead = replicas.iter().filter(|replica| replica.messages > known);
    let line = |replica: &Replica| {
        let Replica { name, messages, .. } = replica;
        format!("the replica on {name:?} has {messages} messages, but that of the leader {known}")
    };
    ahead.map(line).collect()
}

/// Deletes the consumers that [`open_replicas`] has created.
pub(super) async fn delete_consumers(stream: &Stream<()>, replicas: Vec<Replica>) {
    for replica in replicas {
        if !delete_consumer(stream, &replica.consumer.cached_info().name).await {
            return;
        }
    }
}

/// Deletes a consumer. False if that fails: servers delete it themselves later.
pub(super) async fn delete_consumer(stream: &Stream<()>, consumer: &str) -> bool {
    let deletion = stream.delete_consumer(consumer);
    matches!(timeout(DELETE_TIMEOUT, deletion).await, Ok(Ok(_)))
}

/// The names of the servers of a stream, each once, the leader first. The name of a server without a cluster is not
/// known.
fn names(info: &Info) -> Vec<String> {
    let Some(cluster) = &info.cluster else {
        return vec!["the only server".to_owned()];
    };
    let others = cluster.replicas.iter().map(|replica| &replica.name);
    let mut names = Vec::new();
    for name in cluster.leader.iter().chain(others) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

fn config() -> Config {
    Config {
        ack_policy: AckPolicy::None,
        inactive_threshold: INACTIVE_TIME,
        num_replicas: 1,
        memory_storage: true,
        ..Config::default()
    }
}

impl Replica {
    /// Waits until it has so many messages, or `end`.
    async fn catch_up(&mut self, messages: u64, end: Instant) -> Result<(), async_nats::Error> {
        while self.messages < messages && Instant::now() < end {
            sleep(PAUSE).await;
            self.messages = self.consumer.info().await?.num_pending;
        }
        Ok(())
    }
}
