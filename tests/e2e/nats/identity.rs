//! The identity of a stream: created by several peers at once, replaced, or with fewer messages than before.

use alldata_peer_server_http::sink::BoxSink;
use alldata_peer_server_http::sinks;
use async_nats::jetstream::Context;
use async_nats::jetstream::stream::Config;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::fake_server::{FakeServer, stream_info};
use super::{Cluster, STREAM, Single, can_start};
use crate::sinks::put;
use crate::support::{DEADLINE, Peer, wait_until};

/// The number of streams that are created, by two or three peers at once.
const STREAMS: usize = 5;

/// The name of the id in the metadata of a stream.
const ID: &str = "alldata-stream-id";

#[test]
fn creators_at_the_same_moment_agree_on_the_stream_under_each_leader() {
    if !can_start("a stream that several make at once") {
        return;
    }
    let cluster = Cluster::start(3, "");
    let runtime = Runtime::new().expect("starts a runtime");
    runtime.block_on(async {
        let client = async_nats::connect(cluster.address(0).to_string()).await;
        let client = client.expect("connects");
        let context = async_nats::jetstream::new(client.clone());
        let mut made = BTreeMap::new();
        for number in 0..STREAMS {
            let name = format!("made{number}");
            let url = format!("nats://{}/{name}?subject={name}", cluster.hosts());
            let opening = (0..2 + number % 2).map(|_| sinks::open(&url));
            let sinks = join_all(opening).await.into_iter();
            let sinks: Vec<BoxSink> = sinks.map(|sink| sink.expect("opens")).collect();
            let id = info(&context, &name).await.config.metadata.get(ID).cloned();
            assert_eq!(id.map(|id| id.len()), Some(32));
            made.insert(name, sinks);
        }
        for name in made.keys() {
            change_leader(&context, name).await;
        }
        let requests = client.subscribe("$JS.API.STREAM.INFO.>").await;
        let mut requests = requests.expect("subscribes");
        let mut looks: BTreeMap<String, usize> = BTreeMap::new();
        let is_seen = |looks: &BTreeMap<String, usize>, name: &String, sinks: &Vec<BoxSink>| {
            looks
                .get(name)
                .is_some_and(|looks| *looks >= 2 * sinks.len())
        };
        while !made
            .iter()
            .all(|(name, sinks)| is_seen(&looks, name, sinks))
        {
            let request = timeout(DEADLINE, requests.next()).await;
            let request = request.expect("in time").expect("goes on");
            let name = request.subject.rsplit('.').next().expect("is one");
            *looks.entry(name.to_owned()).or_default() += 1;
        }
        for (name, sinks) in &made {
            for (number, sink) in sinks.iter().enumerate() {
                assert_eq!(put(sink, &number.to_string(), "1").await, Ok(()), "{name}");
            }
        }
    });
}

/// As on old servers if two clients have created it at the same moment.
#[test]
fn stream_whose_creation_time_changes_is_the_same() {
    let (looks, stored) = (Arc::new(AtomicU64::new(0)), AtomicU64::new(0));
    let looked = Arc::clone(&looks);
    let server = FakeServer::start("2.15.1", move |subject| {
        let answer = if subject.starts_with("alldata.") {
            let number = stored.fetch_add(1, Ordering::Relaxed) + 1;
            serde_json::json!({"stream": STREAM, "seq": number})
        } else {
            let second = looked.fetch_add(1, Ordering::Relaxed) % 60;
            let number = stored.load(Ordering::Relaxed);
            let created = format!("2026-11-26T00:00:{second:02}Z");
            stream_info(STREAM, &created, number, &serde_json::json!({ID: "a"}))
        };
        Some(answer.to_string())
    });
    let url = format!("nats://{}/{STREAM}?replicas=1", server.address());
    let peer = Peer::builder().sink(&url).start();
    let at_the_start = looks.load(Ordering::Relaxed);
    wait_until("it was looked at", || {
        looks.load(Ordering::Relaxed) > at_the_start + 1
    });
    peer.put("a", "1").assert_created();
}

/// Detected by a put, which is assigned a sequence number that was used before.
#[test]
fn stream_with_repeated_sequence_refuses_puts_until_a_restart() {
    if !can_start("streams that go back, found by a put") {
        return;
    }
    let nats = Single::start();
    let peer = with_three_events(&nats);
    remake(&nats, |_| {});
    let unknown = peer.put("d", "1");
    assert_eq!(unknown.assert_problem(504)["stored"], "unknown");
    let line = peer.log_line("an event was stored as number 1, but 3 was there before");
    assert!(line.contains("verify --all-replicas"), "{line}");
    assert_lasts(&nats, peer);
}

/// Detected by a probe, before anything is put.
#[test]
fn stream_with_lost_messages_refuses_puts_until_a_restart() {
    if !can_start("streams that go back, found by a look") {
        return;
    }
    let nats = Single::start();
    let peer = with_three_events(&nats);
    remake(&nats, |_| {});
    let line = peer.log_line("its last sequence is 0, but 3 was stored before");
    assert!(line.contains("verify --all-replicas"), "{line}");
    assert_lasts(&nats, peer);
}

#[test]
fn stream_with_another_id_takes_nothing_until_a_restart() {
    if !can_start("streams with another id") {
        return;
    }
    let nats = Single::start();
    let peer = with_three_events(&nats);
    nats.update(|config| drop(config.metadata.insert(ID.to_owned(), "other".to_owned())));
    peer.log_line("it is another than when this server started");
    assert_lasts(&nats, peer);
}

/// As if created by hand.
#[test]
fn stream_without_an_id_is_used_and_never_changed() {
    if !can_start("streams without an id") {
        return;
    }
    let nats = Single::start();
    drop(nats.peer());
    remake(&nats, |config| config.metadata.clear());
    let peer = with_three_events(&nats);
    assert_eq!(nats.info().config.metadata.get(ID), None);
    // Another client gives it one.
    nats.update(|config| drop(config.metadata.insert(ID.to_owned(), "own".to_owned())));
    peer.put("d", "1").assert_created();
    remake(&nats, |config| config.metadata.clear());
    peer.log_line("the stream takes no events any more");
    assert_lasts(&nats, peer);
}

fn with_three_events(nats: &Single) -> Peer {
    let peer = nats.peer();
    for key in ["a", "b", "c"] {
        peer.put(key, "1").assert_created();
    }
    peer
}

/// Deletes the stream and creates it again with its metadata.
fn remake(nats: &Single, change: impl FnOnce(&mut Config)) {
    let mut config = nats.info().config;
    change(&mut config);
    let context = nats.context();
    nats.block_on(async {
        context.delete_stream(STREAM).await.expect("is deleted");
        context.create_stream(config).await.expect("is made");
    });
}

/// Whatever the stream looks like later, that peer puts nothing more into it; another one does.
#[track_caller]
fn assert_lasts(nats: &Single, peer: Peer) {
    let other = nats.peer();
    for number in 0..10 {
        other.put(&format!("other{number}"), "1").assert_created();
    }
    // Refusals are logged every 5 s, in which there would be many probes.
    for _ in 0..2 {
        let refused = peer.put("e", "1");
        assert_eq!(refused.assert_problem(503)["stored"], "no");
        // Only a restart of the peer ends that.
        assert_eq!(refused.header("retry-after"), Some("60"));
        peer.log_line("reason=\"sink_unavailable\"");
    }
    assert_eq!(peer.put("e", "1").assert_problem(503)["stored"], "no");
    drop(peer);
    nats.peer().put("e", "1").assert_created();
}

async fn info(context: &Context, name: &str) -> async_nats::jetstream::stream::Info {
    let stream = context.get_stream(name).await.expect("is there");
    stream.cached_info().clone()
}

/// Makes another replica lead a stream.
pub(super) async fn change_leader(context: &Context, name: &str) {
    let leader = |info: async_nats::jetstream::stream::Info| info.cluster.and_then(|it| it.leader);
    let before = leader(info(context, name).await);
    let subject = format!("STREAM.LEADER.STEPDOWN.{name}");
    let answer: serde_json::Value = context.request(subject, &()).await.expect("is answered");
    assert_eq!(answer["success"], true, "{answer}");
    let changed = async {
        loop {
            let stream = context.get_stream(name).await;
            let now = stream
                .ok()
                .and_then(|stream| leader(stream.cached_info().clone()));
            if now.is_some() && now != before {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, changed).await.expect("in time");
}
