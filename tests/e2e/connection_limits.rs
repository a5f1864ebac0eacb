//! The limits on connections: which connections are closed for new ones, and which wait.
//!
//! The limits of a request are in `limits`.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use alldata_peer_server_http::{Limits, PeerServer, PutError, sinks::DiscardSink};

use crate::support::{Connection, DEADLINE, Embedded, Peer, Post, both_components, wait_until};

/// The number of clients that use up all connections.
const CLIENTS: usize = 60;

/// The number of clients that reconnect at once, many times the number of connections.
const RETURNING_CLIENTS: usize = 1100;

/// The time for the first byte of a request, also under this load.
const THINKING_TIME: Duration = Duration::from_millis(30);

/// The number of attempts of a client whose connection may be closed again, on a busy machine.
const TRIES: usize = 5;

/// More bytes than two sockets buffer of a response that is not read.
const LARGE_REASON_BYTES: usize = 8 * 1024 * 1024;

/// The time for which no response must arrive.
const PAUSE: Duration = Duration::from_millis(200);

fn put() -> Post {
    Post::put("key1", "1")
}

fn get() -> Post {
    Post::new(Vec::new()).method("GET")
}

/// A server with few connections.
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
fn idle_clients_at_the_limit_block_no_new_client() {
    let peer = serve(CLIENTS);
    let mut kept: Vec<Connection> = (0..CLIENTS).map(|_| peer.connect()).collect();
    for round in 0..3 {
        for connection in &mut kept {
            connection.ask(&get()).assert_problem(405);
        }
        let mut new = peer.connect();
        new.ask(&Post::put(&format!("key{round}"), "1"))
            .assert_created();
        // Its request was the first of the round, so it has been idle the longest.
        assert_eq!(kept.remove(0).rest(), b"");
        kept.push(new);
    }
    peer.log_line("too many connections at a time");
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
fn started_requests_are_never_cut_off() {
    let peer = serve(3);
    let (first, rest) = halves();
    let head = first.len() / 2;
    let mut busy: Vec<Connection> = (0..3).map(|_| peer.connect()).collect();
    // Within the header section, within the body, and within the header section of a pipelined request.
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
fn waiting_client_does_not_delay_shutdown() {
    let builder = PeerServer::builder().sink(DiscardSink);
    let server = Embedded::start(builder.limits(Limits {
        max_connections: 1,
        drain_timeout: DEADLINE * 10,
        ..Limits::default()
    }));
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

/// A response that its client reads slowly is not cut off, whether the host has all of it or a guest is still
/// writing it.
#[test]
fn unread_response_keeps_its_connection() {
    for component in both_components() {
        let reason = "x".repeat(LARGE_REASON_BYTES);
        let builder = PeerServer::builder().compiled_component(component).on_put({
            let reason = reason.clone();
            move |key, _| {
                let large = (key == "large").then(|| PutError::Rejected(reason.clone()));
                async { large.map_or(Ok(()), Err) }
            }
        });
        // On a busy machine it takes a while to write so much.
        let builder = builder.limits(Limits {
            max_guest_time: DEADLINE,
            max_connections: 1,
            ..Limits::default()
        });
        let server = Embedded::start(builder);
        let mut slow = server.connect();
        slow.send(Post::put("large", "1").bytes());
        // Its first bytes have arrived.
        assert!(!slow.is_quiet_for(DEADLINE));
        let mut waiting = server.connect();
        waiting.send(put().bytes());
        assert!(waiting.is_quiet_for(PAUSE), "there was a place");
        assert_eq!(slow.answer().detail(422), reason);
        waiting.answer().assert_created();
    }
}

/// A client that has its last response and keeps the connection open is closed first.
#[test]
fn lingering_connection_makes_room_before_an_idle_one() {
    let peer = serve(2);
    let mut idle = peer.connect();
    idle.ask(&put()).assert_created();
    let mut lingering = Vec::new();
    for _ in 0..5 {
        let mut last = peer.connect();
        last.send(chunked_with_trailer()).answer().assert_created();
        assert_eq!(last.rest(), b"");
        lingering.push(last);
    }
    idle.ask(&put()).assert_created();
}

/// A put whose body has a trailer section; the server reads nothing after it.
fn chunked_with_trailer() -> Vec<u8> {
    let body = "{\"key\":\"key1\",\"event\":1}";
    let body = format!("{:x}\r\n{body}\r\n0\r\nX: y\r\n\r\n", body.len());
    let head = "POST / HTTP/1.1\r\nHost: peer\r\nTransfer-Encoding: chunked\r\n\r\n";
    [head, &body].concat().into_bytes()
}

/// While a connection waits, each response says `Connection: close`, so that no client loses a request that it
/// has just sent.
#[test]
fn answer_is_the_last_while_another_connection_waits() {
    let peer = serve(1);
    let mut served = peer.connect();
    served.send(halves().0);
    let mut waiting = peer.connect();
    waiting.send(put().bytes());
    assert!(waiting.is_quiet_for(PAUSE), "there was a place");
    // Pipelined requests do not change the response.
    served.send(halves().1).send(put().bytes());
    let answer = served.answer();
    answer.assert_created();
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(served.rest(), b"");
    let answer = waiting.answer();
    answer.assert_created();
    assert_eq!(answer.header("connection"), None);
    waiting.ask(&put()).assert_created();
}

/// Clients that reconnect as soon as they are closed: one third sends nothing, one sends a request and stays,
/// one sends a request and closes.
fn come_back(address: SocketAddr, clients: usize, is_over: &AtomicBool) {
    let mut open: Vec<Option<TcpStream>> = (0..clients).map(|_| None).collect();
    while !is_over.load(Ordering::Relaxed) {
        for (number, client) in open.iter_mut().enumerate() {
            let is_open = client.as_mut().is_some_and(|stream| {
                let read = stream.read(&mut [0; 512]);
                let waits = |error: std::io::Error| error.kind() == ErrorKind::WouldBlock;
                read.map_or_else(waits, |bytes| bytes > 0 && number % 3 == 1)
            });
            if is_open || is_over.load(Ordering::Relaxed) {
                continue;
            }
            *client = TcpStream::connect_timeout(&address, DEADLINE).ok();
            if let Some(stream) = client {
                stream.set_nonblocking(true).expect("sets an option");
                if number % 3 > 0 {
                    let _ = stream.write(&put().bytes());
                }
            }
        }
    }
}

/// Puts like a client that takes a while until its first byte.
fn put_after_thinking(address: SocketAddr, put: &Post) {
    for _ in 0..TRIES {
        let mut connection = Connection::open(address);
        connection.is_quiet_for(THINKING_TIME);
        connection.try_send(put.bytes());
        if let Some(answer) = connection.answer_or_end() {
            answer.assert_created();
            return;
        }
    }
    panic!("no try got through");
}

#[test]
fn puts_succeed_beside_reconnecting_clients() {
    let peer = serve(64);
    let (address, is_over) = (peer.address(), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| come_back(address, RETURNING_CLIENTS / 4, &is_over));
        }
        peer.log_line("too many connections at a time");
        let good = (0..4).map(|client| {
            scope.spawn(move || {
                for number in 0..5 {
                    let put = Post::put(&format!("good{client}-{number}"), "1");
                    put.send_to(address).assert_created();
                    put_after_thinking(address, &put);
                }
            })
        });
        let good: Vec<_> = good.collect();
        let ended: Vec<_> = good.into_iter().map(ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
    });
}

#[test]
fn connections_per_address_are_limited_if_configured() {
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
    peer.log_line("too many connections of one address");
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
