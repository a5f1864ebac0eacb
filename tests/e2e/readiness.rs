//! `/readyz` in each of its states, and `/livez` beside it.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use rusqlite::Connection as Database;
use rustix::process::Signal;

use crate::support::admin::{get, scrape};
use crate::support::{Peer, Post, ScriptedPeer, wait_until};

/// The reasons why a server is not ready; empty if it is.
fn reasons(peer: &Peer) -> String {
    let alive = get(peer.admin(), "/livez");
    assert_eq!((alive.status, &*alive.text()), (200, "ok\n"));
    let answer = get(peer.admin(), "/readyz");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let is_ready = scrape(peer.admin()).value("alldata_peer_ready");
    match answer.status {
        200 => {
            assert_eq!(answer.text(), "ok\n");
            String::new()
        }
        503 => {
            assert!(answer.text().ends_with('\n'), "{}", answer.text());
            assert!(is_ready < 1.0 || get(peer.admin(), "/readyz").status == 200);
            answer.text()
        }
        status => panic!("{status}: {}", answer.text()),
    }
}

#[test]
fn server_that_has_started_is_ready() {
    let peer = Peer::builder().admin().start();
    assert_eq!(reasons(&peer), "");
}

#[test]
fn server_is_not_ready_while_it_starts() {
    // A server of NATS that accepts connections, and says nothing.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
    let port = silent.local_addr().expect("is bound").port();
    let url = format!("nats://127.0.0.1:{port}/events");
    let mut peer = Peer::builder().admin().sink(&url).start_for_operators();
    assert_eq!(reasons(&peer), "starting\n");
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
}

#[test]
fn server_is_not_ready_while_it_drains() {
    let other = ScriptedPeer::start(|exchange| {
        exchange.read_body();
    });
    let mut peer = Peer::builder().admin().sink(&other.url()).start();
    let mut connection = peer.connect();
    connection.send(Post::put("key1", "1").bytes());
    let mut put = other.request();
    peer.signal(Signal::TERM);
    peer.log_line("closing");
    wait_until("it drains", || reasons(&peer) == "draining\n");
    let metrics = scrape(peer.admin());
    assert_eq!(metrics.value("alldata_peer_requests_in_service"), 1.0);
    put.answer("201 Created", "", "");
    connection.answer().assert_created();
    assert_eq!(peer.wait().code(), Some(0));
    assert!(std::net::TcpStream::connect(peer.admin()).is_err());
}

#[test]
fn server_without_free_permit_is_not_ready() {
    let other = ScriptedPeer::start(|exchange| {
        exchange.read_body();
    });
    let peer = Peer::builder().admin().sink(&other.url());
    let peer = peer.arguments(&["--max-concurrent-requests", "1"]).start();
    let mut connection = peer.connect();
    connection.send(Post::put("key1", "1").bytes());
    let mut put = other.request();
    let found = reasons(&peer);
    assert!(found.starts_with("no permits"), "{found}");
    assert!(found.contains("--max-concurrent-requests"), "{found}");
    put.answer("201 Created", "", "");
    connection.answer().assert_created();
    assert_eq!(reasons(&peer), "");
}

#[test]
fn server_whose_last_puts_failed_is_not_ready_until_one_is_stored() {
    let other = ScriptedPeer::start(|exchange| {
        exchange.read_body();
        match &*exchange.key() {
            "good" => exchange.answer("201 Created", "", ""),
            _ => exchange.answer("503 Service Unavailable", "Retry-After: 1\r\n", ""),
        }
    });
    let peer = Peer::builder().admin().sink(&other.url()).start();
    peer.put("bad", "1").assert_problem(503);
    assert_eq!(reasons(&peer), "", "one put tells little");
    for _ in 0..2 {
        peer.put("bad", "1").assert_problem(503);
    }
    let found = reasons(&peer);
    assert!(found.contains("the last puts failed"), "{found}");
    peer.put("good", "1").assert_created();
    assert_eq!(reasons(&peer), "");
}

#[test]
fn server_whose_store_has_moved_is_not_ready_until_it_is_back() {
    let peer = Peer::builder().admin().start();
    peer.put("key1", "1").assert_created();
    let (here, away) = (peer.file("alldata.db"), peer.file("away"));
    fs::rename(&here, &away).expect("moves");
    // It is noticed without a put.
    wait_until("it is not ready", || reasons(&peer).contains("alldata.db"));
    let metrics = scrape(peer.admin());
    assert_eq!(metrics.value("alldata_peer_store_files_in_order"), 0.0);
    fs::rename(&away, &here).expect("moves");
    wait_until("it is ready again", || {
        peer.put("key2", "2");
        reasons(&peer).is_empty()
    });
}

#[test]
fn server_with_full_queue_is_not_ready() {
    let peer = Peer::builder()
        .admin()
        .arguments(&["--max-queue", "1"])
        .start();
    peer.put("key1", "1").assert_created();
    let database = Database::open(peer.file("alldata.db")).expect("opens");
    database.execute_batch("BEGIN IMMEDIATE").expect("locks");
    // The first is being written, and the second waits.
    let mut connections = [peer.connect(), peer.connect()];
    for (number, connection) in connections.iter_mut().enumerate() {
        connection.send(Post::put(&format!("waits{number}"), "1").bytes());
        wait_until("it is taken by the sink", || {
            let metrics = scrape(peer.admin());
            metrics.value("alldata_peer_requests_in_service") > number as f64
        });
        wait_until("the writer has taken the first", || {
            number == 1 || scrape(peer.admin()).value("alldata_peer_queue_puts") == 0.0
        });
    }
    wait_until("the queue is full", || reasons(&peer).contains("queue"));
    let metrics = scrape(peer.admin());
    assert_eq!(metrics.value("alldata_peer_queue_puts"), 1.0);
    assert_eq!(metrics.value("alldata_peer_queue_bytes"), 7.0);
    database.execute_batch("ROLLBACK").expect("unlocks");
    for mut connection in connections {
        connection.answer();
    }
    wait_until("it is ready again", || reasons(&peer).is_empty());
}
