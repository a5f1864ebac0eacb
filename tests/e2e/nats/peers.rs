//! Three peers on three nats-servers are one store, and follow the leader.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use alldata_peer_server_http::PutError;
use alldata_peer_server_http::sinks;
use tokio::runtime::Runtime;

use super::identity::change_leader;
use super::{Cluster, Replicas, STREAM, can_start, url};
use crate::sinks::put;
use crate::support::{Answer, Peer, Post, run, wait_until};

/// The number of keys that peers race for.
const KEYS: usize = 40;

#[test]
fn one_of_many_writers_wins() {
    if !can_start("three peers over three servers") {
        return;
    }
    let cluster = Cluster::start(3, "");
    let store = url(&cluster, "replicas=3");
    // All at once; one of them creates the stream.
    let peers: Vec<Peer> = thread::scope(|scope| {
        let start = |_| scope.spawn(|| Peer::builder().sink(&store).start());
        let starting: Vec<_> = (0..3).map(start).collect();
        starting
            .into_iter()
            .map(|peer| peer.join().expect("starts"))
            .collect()
    });
    let mut winners = BTreeMap::new();
    for number in 0..KEYS {
        let key = format!("race{number}");
        let answers = race(&peers, &key);
        let won: Vec<usize> = (0..answers.len())
            .filter(|writer| answers[*writer].status == 201)
            .collect();
        assert_eq!(won.len(), 1, "{key}");
        for (writer, answer) in answers.iter().enumerate() {
            if writer != won[0] {
                answer.assert_problem(409);
            }
        }
        for peer in &peers {
            peer.put(&key, &won[0].to_string()).assert_created();
            peer.put(&key, "\"other\"").assert_problem(409);
        }
        winners.insert(key, won[0].to_string());
    }
    let output = run(&["export", "--store", &store]);
    assert_eq!(output.events(), winners);
    let output = run(&["verify", "--store", &store]);
    assert_eq!(
        output.assert_ok(),
        format!("{KEYS} events, all as they were put\n")
    );
}

#[test]
fn peers_connect_to_the_leader() {
    if !can_start("three peers over three servers") {
        return;
    }
    let cluster = Cluster::start(3, "");
    let store = url(&cluster, "replicas=3");
    // The first one creates the stream.
    let start = |_| Peer::builder().sink(&store).start();
    let peers: Vec<Peer> = (0..3).map(start).collect();
    let clients = |node| cluster.clients(node, "alldata-peer-server-http");
    wait_until("all are connected to the leader, and to it alone", || {
        let leader = cluster.leader(STREAM);
        leader.is_some_and(|leader| clients(leader) == 3) && (0..3).map(clients).sum::<usize>() == 3
    });
    drop(peers);
}

/// Servers tell their clients the addresses of the others.
#[test]
fn peer_follows_the_leader_beyond_the_url() {
    if !can_start("leaders that the URL does not name") {
        return;
    }
    let cluster = Cluster::start_unlinked(3, "");
    let store = format!("nats://{}/{STREAM}", cluster.address(0));
    let peer = Peer::builder().sink(&store).start();
    Replicas::of(&cluster).lead(1);
    peer.log_line("events go to the new leader");
    peer.put("a", "1").assert_created();
    assert_eq!(cluster.clients(1, "alldata-peer-server-http"), 1);
}

/// How often the leader changes while events arrive.
const CHANGES: usize = 3;

/// The number of clients meanwhile.
const WRITERS: usize = 8;

#[test]
fn peer_follows_a_moving_leader_without_unknown_outcomes() {
    if !can_start("leaders that move") {
        return;
    }
    let cluster = Cluster::start(3, "");
    let runtime = Runtime::new().expect("starts a runtime");
    runtime.block_on(async {
        let sink = sinks::open(&url(&cluster, "replicas=3")).await;
        let sink = sink.expect("opens");
        let client = async_nats::connect(cluster.address(0).to_string()).await;
        let context = async_nats::jetstream::new(client.expect("connects"));
        let is_over = Arc::new(AtomicBool::new(false));
        let write = |writer: usize| {
            let (sink, is_over) = (sink.clone(), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut number = 0;
                while !is_over.load(Ordering::Relaxed) {
                    // Each event is put, put again, and refused as a different one.
                    let key = format!("{writer}x{number}");
                    assert_eq!(put(&sink, &key, "1").await, Ok(()), "{key}");
                    assert_eq!(put(&sink, &key, "1").await, Ok(()), "{key}");
                    assert_eq!(
                        put(&sink, &key, "2").await,
                        Err(PutError::Conflict),
                        "{key}"
                    );
                    number += 1;
                }
                number
            })
        };
        let writers: Vec<_> = (0..WRITERS).map(write).collect();
        let clients = |node| cluster.clients(node, "alldata-peer-server-http");
        for _ in 0..CHANGES {
            change_leader(&context, STREAM).await;
            tokio::task::block_in_place(|| {
                wait_until(
                    "the peer is connected to the leader, and to it alone",
                    || {
                        let leader = cluster.leader(STREAM);
                        leader.is_some_and(|leader| clients(leader) == 1)
                            && (0..3).map(clients).sum::<usize>() == 1
                    },
                );
            });
        }
        is_over.store(true, Ordering::Relaxed);
        let mut stored = 0;
        for writer in writers {
            stored += writer.await.expect("all are answered rightly");
        }
        let stream = context.get_stream(STREAM).await.expect("is there");
        assert_eq!(stream.cached_info().state.messages, stored);
    });
}

/// Lets each of six clients, two at each peer, put another event under one key at the same moment.
fn race(peers: &[Peer], key: &str) -> Vec<Answer> {
    let barrier = Barrier::new(2 * peers.len());
    thread::scope(|scope| {
        let write = |writer: usize| {
            let (barrier, address) = (&barrier, peers[writer % peers.len()].address());
            scope.spawn(move || {
                let put = Post::put(key, &writer.to_string());
                barrier.wait();
                put.send_to(address)
            })
        };
        let writers: Vec<_> = (0..2 * peers.len()).map(write).collect();
        writers
            .into_iter()
            .map(|writer| writer.join().expect("is answered"))
            .collect()
    })
}
