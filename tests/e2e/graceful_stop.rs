//! The end of a server by a signal: requests in flight are answered, and nothing delays the end without bound.
//!
//! `close` of the library is in `shutdown`, loads that a signal ends in `durability`.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use alldata_peer_server_http::PeerServer;
use rustix::process::Signal;
use tokio::sync::Semaphore;

use crate::load::{Events, Load, exported};
use crate::support::{Connection, DEADLINE, Embedded, Peer, Post, wait_until};

#[test]
fn incomplete_request_and_unread_response_do_not_delay_shutdown() {
    let mut peer = Peer::builder()
        .arguments(&["--drain-timeout", "3600"])
        .start();
    let mut half = peer.connect();
    half.send("POST /_put HTTP/1.1\r\nHost:");
    let mut unread = peer.connect();
    unread.send(Post::put("key1", "1").bytes().repeat(3));
    peer.put("key2", "1").assert_created();
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
}

#[test]
fn puts_in_the_sink_at_sigterm_are_answered() {
    assert_puts_in_the_sink_are_answered(Signal::TERM);
}

#[test]
fn puts_in_the_sink_at_sigint_are_answered() {
    assert_puts_in_the_sink_are_answered(Signal::INT);
}

fn assert_puts_in_the_sink_are_answered(signal: Signal) {
    let sink = SlowPeer::start();
    let mut peer = Peer::builder().sink(&sink.url()).start();
    let mut connections: Vec<Connection> = (0..32)
        .map(|number| {
            let mut connection = peer.connect();
            connection.send(Post::put(&format!("key{number}"), "1").bytes());
            connection
        })
        .collect();
    sink.wait_for(connections.len());
    peer.signal(signal);
    wait_until_refused(peer.address());
    sink.release();
    for connection in &mut connections {
        let answer = connection.answer();
        answer.assert_created();
        // Otherwise the client would send its next put on a connection that is about to close.
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(connection.rest(), b"");
    }
    assert_eq!(peer.wait().code(), Some(0));
}

#[test]
fn queued_puts_at_a_signal_are_stored_and_answered() {
    let mut peer = Peer::start();
    let lock = rusqlite::Connection::open(peer.file("alldata.db")).expect("opens");
    lock.execute_batch("BEGIN IMMEDIATE").expect("locks");
    let keys: Vec<String> = (0..16).map(|number| format!("key{number}")).collect();
    let mut connections: Vec<Connection> = keys
        .iter()
        .map(|key| {
            let mut connection = peer.connect();
            let body = start_to_put(&mut connection, key, "{ \"a\": 1 }");
            connection.send(body);
            connection
        })
        .collect();
    peer.signal(Signal::TERM);
    wait_until_refused(peer.address());
    lock.execute_batch("ROLLBACK").expect("unlocks");
    for connection in &mut connections {
        connection.answer().assert_created();
    }
    assert_eq!(peer.wait().code(), Some(0));
    let events = keys.into_iter().map(|key| (key, "{ \"a\": 1 }".to_owned()));
    assert_eq!(exported(&peer.store()), events.collect());
}

#[test]
fn incomplete_request_at_a_signal_is_not_put() {
    let drain = ["--drain-timeout", "1"];
    let mut peer = Peer::builder().arguments(&drain).start();
    let mut connection = peer.connect();
    let body = start_to_put(&mut connection, "half", "{ \"a\": 1 }");
    connection.send(&body[..body.len() / 2]);
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    assert_eq!(exported(&peer.store()), Events::new());
}

#[test]
fn signal_ends_server_with_idle_connections() {
    let mut peer = Peer::builder()
        .arguments(&["--drain-timeout", "3600"])
        .start();
    let mut silent = peer.connect();
    let mut used = peer.connect();
    used.send(Post::put("key1", "1").bytes())
        .answer()
        .assert_created();
    peer.signal(Signal::TERM);
    assert_eq!(used.rest(), b"");
    assert_eq!(silent.rest(), b"");
    assert_eq!(peer.wait().code(), Some(0));
}

#[test]
fn clean_shutdown_leaves_only_the_database() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut peer = Peer::start();
        Load::start(peer.address(), "put", 4, 25).finish();
        peer.signal(signal);
        assert_eq!(peer.wait().code(), Some(0));
        let files = fs::read_dir(peer.file(".")).expect("is a directory");
        let names: Vec<_> = files
            .map(|file| file.expect("is a file").file_name())
            .collect();
        assert_eq!(names, ["alldata.db"]);
        assert_eq!(exported(&peer.store()).len(), 100);
    }
}

#[test]
fn second_signal_ends_server_with_hanging_sink() {
    let pairs = [
        (Signal::TERM, Signal::TERM),
        (Signal::INT, Signal::INT),
        (Signal::TERM, Signal::INT),
    ];
    for (first, second) in pairs {
        let sink = SlowPeer::start();
        let patience = ["--drain-timeout", "3600", "--sink-timeout", "3600"];
        let mut peer = Peer::builder()
            .sink(&sink.url())
            .arguments(&patience)
            .start();
        let mut connection = peer.connect();
        connection.send(Post::put("key1", "1").bytes());
        sink.wait_for(1);
        peer.signal(first);
        wait_until_refused(peer.address());
        // A second signal within a second of the first may have the same cause, and is ignored.
        wait_until("a later signal ends the server", || {
            peer.signal(second);
            peer.has_ended()
        });
        assert_eq!(peer.wait().code(), Some(130), "the end was cut short");
        sink.release();
    }
}

#[test]
fn hanging_sink_delays_shutdown_only_until_timeout() {
    let sink = SlowPeer::start();
    let arguments = ["--drain-timeout", "1", "--sink-timeout", "3600"];
    let mut peer = Peer::builder()
        .sink(&sink.url())
        .arguments(&arguments)
        .start();
    let mut connection = peer.connect();
    connection.send(Post::put("key1", "1").bytes());
    sink.wait_for(1);
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    sink.release();
}

/// Sends the header section of a put, waits until the server asks for the body, and returns the body.
fn start_to_put(connection: &mut Connection, key: &str, event: &str) -> Vec<u8> {
    let post = Post::put(key, event).header("Expect: 100-continue");
    let head = post.head();
    connection.send(&head);
    assert_eq!(connection.any_answer(false).status, 100);
    post.bytes().split_off(head.len())
}

/// Waits until connections to `address` are refused.
fn wait_until_refused(address: SocketAddr) {
    let start = Instant::now();
    while TcpStream::connect_timeout(&address, DEADLINE).is_ok() {
        assert!(start.elapsed() < DEADLINE, "connections are still accepted");
        thread::yield_now();
    }
}

/// A peer that answers no put until `release` is called.
struct SlowPeer {
    server: Embedded,
    arrived: Receiver<String>,
    gate: Arc<Semaphore>,
}

impl SlowPeer {
    fn start() -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let (sender, arrived) = mpsc::channel();
        let held = Arc::clone(&gate);
        let server = PeerServer::builder().on_put(move |key, _| {
            // The test may not receive keys.
            let _ = sender.send(key);
            let gate = Arc::clone(&held);
            async move {
                // The semaphore never has a permit: this waits until it is closed.
                let _ = gate.acquire().await;
                Ok(())
            }
        });
        Self {
            server: Embedded::start(server),
            arrived,
            gate,
        }
    }

    fn url(&self) -> String {
        format!("http://{}/_put", self.server.address())
    }

    /// Waits until `puts` puts have arrived.
    fn wait_for(&self, puts: usize) {
        for _ in 0..puts {
            self.arrived.recv_timeout(DEADLINE).expect("a put arrives");
        }
    }

    fn release(&self) {
        self.gate.close();
    }
}
