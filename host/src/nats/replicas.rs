//! What each replica of a stream has, read from the server that keeps it.
//!
//! A consumer without replicas of its own reads what the server has that it is on, whoever leads the stream.
//! Servers choose one at random, so consumers are made until each has one. Never moves the leader.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, Consumer};
use async_nats::jetstream::stream::{Info, Stream};
use tokio::time::{Instant, sleep, timeout};

use super::nats_error;
use super::url::NatsUrl;
use crate::error::Error;

/// How many consumers are made until each replica has one: with five replicas one is left without in 1 of
/// 1000 tries.
const MAX_CONSUMERS: usize = 40;

/// How many may fail meanwhile.
const MAX_FAILURES: usize = 3;

/// After how long without a request servers remove a consumer that is left behind.
const INACTIVE_TIME: Duration = Duration::from_secs(60);

/// How long to wait for the removal of one, which a login may not be allowed.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a replica may take to get what it is behind, and how often it is asked.
pub(super) const CATCH_UP_TIME: Duration = Duration::from_secs(10);
pub(super) const PAUSE: Duration = Duration::from_millis(200);

/// What the replicas of a stream have, compared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replicas {
    /// What some have and others lack, or have in another way: a line for each.
    pub faults: Vec<String>,
    /// Those that could not be read: a line for each server, and one for those that the leader does not name.
    pub unread: Vec<String>,
}

/// A replica, and a consumer on its server.
pub(super) struct Replica {
    pub(super) name: String,
    pub(super) consumer: Consumer<Config>,
    /// How many messages it has.
    pub(super) messages: u64,
}

/// The replicas that can be read, once they have as many messages as `info` says or do not catch up, and a line
/// for each of the others.
///
/// # Errors
///
/// When none can be read.
pub(super) async fn find(
    stream: &Stream<()>,
    info: &Info,
    url: &NatsUrl,
) -> Result<(Vec<Replica>, Vec<String>), Error> {
    let fail = nats_error(url, "read");
    let mut unread = names(info);
    let unnamed = info.config.num_replicas.saturating_sub(unread.len());
    let mut replicas = Vec::new();
    let (mut failures, mut may_remove) = (0, true);
    for _ in 0..MAX_CONSUMERS {
        if unread.is_empty() {
            break;
        }
        let consumer = match stream.create_consumer(config()).await {
            Ok(consumer) => consumer,
            // It may be on a server that does not answer any more, or not yet.
            Err(_) if failures < MAX_FAILURES => {
                failures += 1;
                continue;
            }
            Err(_) if !replicas.is_empty() => break,
            Err(error) => return Err(fail(&error)),
        };
        let host = consumer.cached_info().cluster.as_ref();
        let host = host.and_then(|cluster| cluster.leader.clone());
        let position = unread
            .iter()
            .position(|name| host.as_ref().is_none_or(|host| host == name));
        match position {
            Some(position) => replicas.push(Replica {
                name: unread.swap_remove(position),
                messages: consumer.cached_info().num_pending,
                consumer,
            }),
            None => may_remove = may_remove && remove(stream, &consumer.cached_info().name).await,
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

/// A line for each that has fewer messages than the stream.
pub(super) fn short(replicas: &[Replica], info: &Info) -> Vec<String> {
    let expected = info.state.messages;
    let short = replicas
        .iter()
        .filter(|replica| replica.messages < expected);
    let line = |replica: &Replica| {
        let Replica { name, messages, .. } = replica;
        format!("the replica on {name:?} has {messages} of {expected} messages")
    };
    short.map(line).collect()
}

/// A line for each that has more messages than the stream had after they were counted.
pub(super) fn ahead(replicas: &[Replica], info: &Info) -> Vec<String> {
    let known = info.state.messages;
    let ahead = replicas.iter().filter(|replica| replica.messages > known);
    let line = |replica: &Replica| {
        let Replica { name, messages, .. } = replica;
        format!("the replica on {name:?} has {messages} messages, but that of the leader {known}")
    };
    ahead.map(line).collect()
}

/// Removes what [`find`] has made.
pub(super) async fn forget(stream: &Stream<()>, replicas: Vec<Replica>) {
    for replica in replicas {
        if !remove(stream, &replica.consumer.cached_info().name).await {
            return;
        }
    }
}

/// Removes a consumer. False where that can't be done: servers remove it themselves in the end.
pub(super) async fn remove(stream: &Stream<()>, consumer: &str) -> bool {
    let removal = stream.delete_consumer(consumer);
    matches!(timeout(REMOVE_TIMEOUT, removal).await, Ok(Ok(_)))
}

/// The names of the servers that keep a stream, each once, the leader first. A server without a cluster has no
/// name here that matters.
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
    /// Waits until it has so many messages, for as long as it may take for that.
    async fn catch_up(&mut self, messages: u64, end: Instant) -> Result<(), async_nats::Error> {
        while self.messages < messages && Instant::now() < end {
            sleep(PAUSE).await;
            self.messages = self.consumer.info().await?.num_pending;
        }
        Ok(())
    }
}
