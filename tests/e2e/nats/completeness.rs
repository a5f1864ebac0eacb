//! Commands notice missing messages, in what they read or on one of the replicas.
//!
//! On a fake server, since current servers do not lose messages on demand.

use alldata_peer_server_http::store::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::fake_server::{FakeServer, Message, Request};
use super::{Cluster, STREAM, can_start, url};
use crate::support::{Output, Peer, Post, run};

/// A value that does not matter here.
const TIME: &str = "2026-11-26T00:00:00Z";

/// The most events that arrive while a stream is read.
const MAX_EVENTS: usize = 5000;

/// A stream as its servers report it. The first replica is the leader's.
#[derive(Clone)]
struct Stream {
    replicas: Vec<Vec<(u64, &'static str, &'static str)>>,
    /// The number of messages that the leader reports, and their last sequence number.
    messages: usize,
    last: u64,
    /// The number of servers that can't be read from.
    offline: usize,
    /// The number of servers that the leader names.
    named: usize,
    /// Whether every other consumer is created on a server that is down.
    is_one_down: bool,
}

impl Stream {
    /// Three replicas with the same five events.
    fn whole() -> Self {
        let events = ["a", "b", "c", "d", "e"];
        let events: Vec<_> = (1..)
            .zip(events)
            .map(|(number, key)| (number, key, "1"))
            .collect();
        Self {
            replicas: vec![events.clone(), events.clone(), events],
            messages: 5,
            last: 5,
            offline: 0,
            named: 3,
            is_one_down: false,
        }
    }

    fn run(self, arguments: &[&str]) -> Output {
        let consumers = AtomicUsize::new(0);
        let server =
            FakeServer::start_with("2.15.1", move |request| self.answer(request, &consumers));
        let store = format!("nats://{}/{STREAM}", server.address());
        run(&[arguments, &["--store", &store]].concat())
    }

    fn answer(&self, request: &Request, consumers: &AtomicUsize) -> Vec<Message> {
        let parameters: Value = serde_json::from_slice(request.payload).unwrap_or_default();
        let api = request.subject.strip_prefix("$JS.API.").unwrap_or_default();
        let name = api.rsplit('.').next().unwrap_or_default();
        let answer = match api.split('.').take(3).collect::<Vec<_>>()[..] {
            ["STREAM", "INFO", ..] => self.info(),
            ["STREAM", "MSG", "GET"] => self.last_message(),
            ["CONSUMER", "CREATE", ..] => {
                // The name of its server has its number.
                let number = consumers.fetch_add(1, Ordering::Relaxed);
                if self.is_one_down && number.is_multiple_of(2) {
                    let mut consumer = self.consumer(name, 0, &parameters["config"]);
                    consumer["cluster"] = json!({"name": "events"});
                    consumer["num_pending"] = json!(0);
                    return vec![Message::json(consumer.to_string())];
                }
                let number = if self.is_one_down { number / 2 } else { number };
                let number = number % self.replicas.len();
                self.consumer(&format!("{name}x{number}"), number, &parameters["config"])
            }
            ["CONSUMER", "INFO", ..] => {
                let number = replica_of(name);
                self.consumer(name, number, &json!({"ack_policy": "none", "deliver_policy": "all", "replay_policy": "instant"}))
            }
            ["CONSUMER", "MSG", "NEXT"] => return self.messages(name),
            _ => json!({"success": true}),
        };
        vec![Message::json(answer.to_string())]
    }

    fn info(&self) -> Value {
        let names = (1..self.named + self.offline)
            .map(|number| json!({"name": format!("node{number}"), "current": true, "active": 0}));
        json!({
            "config": {
                "name": STREAM, "subjects": ["alldata.*"], "retention": "limits", "storage": "file", "num_replicas": 3,
                "discard": "new", "discard_new_per_subject": true, "max_msgs_per_subject": 1, "deny_delete": true,
                "deny_purge": true,
            },
            "created": TIME,
            "state": {
                "messages": self.messages, "bytes": 0, "first_seq": 1, "first_ts": TIME, "last_seq": self.last,
                "last_ts": TIME, "consumer_count": 0,
            },
            "cluster": {"leader": "node0", "replicas": names.collect::<Vec<_>>()},
        })
    }

    fn last_message(&self) -> Value {
        let (number, key, event) = self.replicas[0].last().expect("has one");
        json!({"message": {
            "subject": format!("alldata.{key}"), "seq": number, "time": TIME,
            "hdrs": STANDARD.encode(headers(key, event)), "data": STANDARD.encode(event),
        }})
    }

    fn consumer(&self, name: &str, replica: usize, config: &Value) -> Value {
        let zero = json!({"consumer_seq": 0, "stream_seq": 0});
        json!({
            "stream_name": STREAM, "name": name, "created": TIME, "config": config, "delivered": zero,
            "ack_floor": zero, "num_ack_pending": 0, "num_redelivered": 0, "num_waiting": 0,
            "num_pending": self.replicas[replica].len(),
            "cluster": {"leader": format!("node{replica}")},
        })
    }

    fn messages(&self, consumer: &str) -> Vec<Message> {
        let events = &self.replicas[replica_of(consumer)];
        let message = |(position, (number, key, event)): (usize, &(u64, &str, &str))| Message {
            subject: Some(format!("alldata.{key}")),
            reply_to: format!(
                "$JS.ACK.{STREAM}.{consumer}.1.{number}.{}.1700000000000000000.{}",
                position + 1,
                events.len() - position - 1
            ),
            headers: headers(key, event),
            payload: (*event).to_owned(),
        };
        events.iter().enumerate().map(message).collect()
    }
}

fn replica_of(consumer: &str) -> usize {
    let (_, number) = consumer.rsplit_once('x').expect("has a number");
    number.parse().expect("is one")
}

fn headers(key: &str, event: &str) -> String {
    let digest = digest(key, event);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("NATS/1.0\r\nAlldata-Digest: {digest}\r\n\r\n")
}

/// Asserts that every kind of read fails with an error that contains `text`.
#[track_caller]
fn assert_reported(stream: &Stream, all_replicas: bool, reported: &[&str]) {
    for command in ["verify", "export"] {
        let arguments = [command, "--all-replicas"];
        let arguments = &arguments[..if all_replicas { 2 } else { 1 }];
        let output = stream.clone().run(arguments);
        assert_eq!(output.code, Some(1), "{arguments:?}: {output:?}");
        for reported in reported {
            assert!(
                output.stderr.contains(reported),
                "{arguments:?}: {output:?}"
            );
        }
    }
}

#[test]
fn complete_stream_is_read_from_all_replicas() {
    for arguments in [&["verify"][..], &["verify", "--all-replicas"]] {
        let output = Stream::whole().run(arguments);
        assert_eq!(output.assert_ok(), "5 events, all as they were put\n");
    }
    for arguments in [&["export"][..], &["export", "--all-replicas"]] {
        let output = Stream::whole().run(arguments);
        assert_eq!(output.events().len(), 5);
    }
}

#[test]
fn incomplete_export_fails() {
    let mut stream = Stream::whole();
    for replica in &mut stream.replicas {
        replica.remove(2);
    }
    assert_reported(&stream, false, &["4 of its 5 messages were delivered"]);
}

#[test]
fn export_of_a_stream_with_deleted_messages_fails() {
    let mut stream = Stream::whole();
    for replica in &mut stream.replicas {
        replica.remove(2);
    }
    stream.messages = 4;
    assert_reported(&stream, false, &["1 of 5 messages were deleted"]);
    assert_eq!(stream.run(&["export"]).stdout.lines().count(), 4);
}

/// As after a pause of the leader on old servers: it has assigned other sequence numbers to later messages.
#[test]
fn incomplete_replica_is_reported_with_missing_keys() {
    let mut stream = Stream::whole();
    stream.replicas[1].remove(2);
    let numbers = stream.replicas[1].iter_mut().zip(1..);
    numbers.for_each(|(message, number)| message.0 = number);
    let reported = [
        "the replica on \"node1\" has 4 of 5 messages",
        "the key \"c\" is missing on \"node1\", and present on \"node0\" and \"node2\"",
    ];
    assert_reported(&stream, false, &reported);
}

#[test]
fn incomplete_leader_is_reported_with_missing_keys() {
    let mut stream = Stream::whole();
    stream.replicas[0].remove(2);
    let numbers = stream.replicas[0].iter_mut().zip(1..);
    numbers.for_each(|(message, number)| message.0 = number);
    (stream.messages, stream.last) = (4, 4);
    let reported = "the key \"c\" is missing on \"node0\", and present on \"node1\" and \"node2\"";
    assert_reported(&stream, false, &[reported]);
}

#[test]
fn replica_with_another_event_is_reported_when_all_are_read() {
    let mut stream = Stream::whole();
    stream.replicas[2][3].2 = "2";
    assert_reported(&stream, true, &["the key \"d\" holds different events on"]);
    stream.run(&["verify"]).assert_ok();
}

#[test]
fn unreadable_replica_is_reported() {
    let mut stream = Stream::whole();
    stream.offline = 1;
    assert_reported(&stream, true, &["the replica on \"node3\" can't be read"]);
    let output = stream.run(&["export"]);
    assert_eq!(output.code, Some(0));
    assert_eq!(output.stdout.lines().count(), 5);
    assert!(
        output
            .stderr
            .contains("the replica on \"node3\" can't be read")
    );
}

/// As during the replacement of a stream's servers: the leader may name fewer than there are to be.
#[test]
fn replica_unknown_to_the_leader_counts_as_unread() {
    let mut stream = Stream::whole();
    stream.replicas.truncate(2);
    stream.named = 2;
    assert_reported(&stream, true, &["1 of 3 replicas can't be read"]);
    let output = stream.run(&["export"]);
    assert_eq!(output.code, Some(0));
    assert!(output.stderr.contains("1 of 3 replicas can't be read"));
}

/// Servers name no leader of such a consumer.
#[test]
fn consumer_on_a_stopped_server_is_no_replica() {
    let mut stream = Stream::whole();
    stream.is_one_down = true;
    let output = stream.run(&["verify", "--all-replicas"]);
    assert_eq!(output.assert_ok(), "5 events, all as they were put\n");
}

/// On real servers, while events arrive.
#[test]
fn all_replicas_of_a_stream_are_read_while_it_grows() {
    if !can_start("all replicas of a stream") {
        return;
    }
    let mut cluster = Cluster::start(3, "");
    let store = url(&cluster, "replicas=3");
    let peer = Peer::builder().sink(&store).start();
    peer.put("first", "1").assert_created();
    let (address, is_read) = (peer.address(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..MAX_EVENTS {
                if is_read.load(Ordering::Relaxed) {
                    return;
                }
                let put = Post::put(&format!("key{number}"), "1");
                put.send_to(address).assert_created();
            }
        });
        for _ in 0..5 {
            run(&["verify", "--all-replicas", "--store", &store]).assert_ok();
            run(&["export", "--all-replicas", "--store", &store]).assert_ok();
        }
        is_read.store(true, Ordering::Relaxed);
    });
    cluster.kill(2);
    let output = run(&["verify", "--all-replicas", "--store", &store]);
    let reported = "the replica on \"node2\" can't be read";
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains(reported), "{output:?}");
    assert_eq!(run(&["export", "--store", &store]).code, Some(0));
}
