//! As many connections as there may be: which are closed, and which wait.
//!
//! Never tests what a connection may send: that is in `limits`.

use std::time::Duration;

use alldata_peer_server_http::{PeerServer, sinks::DiscardSink};

use crate::support::{Connection, DEADLINE, Embedded, Peer, Post, wait_until};

/// How many clients keep all connections that there are.
const CLIENTS: usize = 60;

/// Long enough for an answer that should not come.
const PAUSE: Duration = Duration::from_millis(200);

fn put() -> Post {
    Post::put("key1", "1")
}

fn get() -> Post {
    Post::new(Vec::new()).method("GET")
}

/// A server that has few connections.
fn serve(max_connections: usize) -> Peer {
    let max_connections = max_connections.to_string();
    Peer::builder()
        .arguments(&["--max-connections", &max_connections])
        .start()
}

/// The first part of a request, and the rest of it.
fn halves() -> (Vec<u8>, Vec<u8>) {
    let mut first = put().bytes();
    let rest = first.split_off(first.len() - 1);
    (first, rest)
}

#[test]
fn clients_that_keep_all_connections_keep_nobody_out() {
    let peer = serve(CLIENTS);
    let mut kept: Vec<Connection> = (0..CLIENTS).map(|_| peer.connect()).collect();
    for round in 0..3 {
        for connection in &mut kept {
            connection.ask(&get()).assert_problem(405);
        }
        let mut new = peer.connect();
        new.ask(&Post::put(&format!("key{round}"), "1"))
            .assert_created();
        // Its request was the first of the round, so that it has been idle the longest.
        assert_eq!(kept.remove(0).rest(), b"");
        kept.push(new);
    }
    peer.log_line("no more connections at a time");
}

#[test]
fn silent_connections_count_as_idle() {
    let peer = serve(2);
    let mut silent: Vec<Connection> = (0..2).map(|_| peer.connect()).collect();
    for number in 0..5 {
        let mut new = peer.connect();
        new.ask(&Post::put(&format!("key{number}"), "1"))
            .assert_created();
        assert_eq!(silent.remove(0).rest(), b"");
        silent.push(new);
    }
}

#[test]
fn requests_that_have_begun_are_never_cut_off() {
    let peer = serve(3);
    let (first, rest) = halves();
    let head = first.len() / 2;
    let mut busy: Vec<Connection> = (0..3).map(|_| peer.connect()).collect();
    // Within the head, within the body, and within the head behind another request.
    busy[0].send(&first[..head]);
    busy[1].send(&first);
    busy[2].ask(&put()).assert_created();
    busy[2].send(&first[..head]);
    let mut waiting = peer.connect();
    waiting.send(put().bytes());
    assert!(waiting.is_quiet_for(PAUSE), "there was a place");
    for (connection, sent) in busy.iter_mut().zip([head, first.len(), head]) {
        connection.send([&first[sent..], &rest].concat());
        connection.answer().assert_created();
    }
    waiting.answer().assert_created();
}

#[test]
fn client_that_waits_for_a_connection_does_not_delay_the_end() {
    let builder = PeerServer::builder().sink(DiscardSink).max_connections(1);
    let server = Embedded::start(builder.drain_timeout(DEADLINE * 10));
    let mut served = server.connect();
    served.send(halves().0);
    let mut waiting = server.connect();
    waiting.send(put().bytes());
    assert!(waiting.is_quiet_for(PAUSE), "there was a place");
    served.send(halves().1);
    served.answer().assert_created();
    server.close();
    let answer = waiting.answer_or_end();
    assert!(answer.is_none_or(|answer| answer.status == 201));
}

#[test]
fn connections_of_one_address_have_a_limit_where_one_is_set() {
    let peer = Peer::builder()
        .arguments(&["--max-connections-per-address", "2"])
        .start();
    let mut kept: Vec<Connection> = (0..2).map(|_| peer.connect()).collect();
    for connection in &mut kept {
        connection.ask(&put()).assert_created();
    }
    for _ in 0..10 {
        assert_eq!(peer.connect().rest(), b"");
    }
    peer.log_line("no more connections of one address");
    for connection in &mut kept {
        connection.ask(&put()).assert_created();
    }
    drop(kept.pop());
    wait_until("a place is free", || {
        let mut new = peer.connect();
        new.try_send(put().bytes());
        new.answer_or_end()
            .is_some_and(|answer| answer.status == 201)
    });
}
