//! Puts under a key that already has an event: which events are the same, and how much a comparison costs.

use std::time::Instant;

use rusqlite::Connection as Database;

use crate::support::{DEADLINE, Peer, Post, run, run_with_input};

/// The number of elements of the large event, which has 4 MiB.
const LARGE_ELEMENTS: usize = 2 * 1024 * 1024;

/// The number of clients that put another event under its key at once.
const CLIENTS: usize = 1100;

/// The sink `sqlite:`, and one that compares in memory.
const SINKS: [&[&str]; 2] = [&[], &["--sink", "memory:"]];

fn large(separator: &str) -> String {
    format!("[{}1]", ["1", separator].concat().repeat(LARGE_ELEMENTS))
}

/// Puts until there is a place for the comparison.
#[track_caller]
fn put_in_turn(peer: &Peer, key: &str, event: &str) -> u16 {
    let start = Instant::now();
    loop {
        let status = peer.put(key, event).status;
        if status != 503 {
            return status;
        }
        assert!(start.elapsed() < DEADLINE, "there is never room");
    }
}

#[test]
fn small_conflicts_with_large_event_delay_no_other_put() {
    for arguments in SINKS {
        let peer = Peer::builder().arguments(arguments).start();
        peer.put("large", &large(",")).assert_created();
        let conflict = Post::put("large", "2").bytes();
        for _ in 0..CLIENTS {
            // The connection is closed at once: a complete request is put all the same.
            peer.connect().send(&conflict);
        }
        for number in 0..100 {
            peer.put(&format!("good-{number}"), "1").assert_created();
        }
        assert_eq!(put_in_turn(&peer, "large", "2"), 409);
        // From here on the value digest of the stored event is cached.
        for _ in 0..CLIENTS {
            peer.put("large", "3").assert_problem(409);
        }
    }
}

#[test]
fn same_value_is_success_whatever_its_size() {
    for arguments in SINKS {
        let peer = Peer::builder().arguments(arguments).start();
        peer.put("large", &large(",")).assert_created();
        peer.put("large", &large(" , ")).assert_created();
        peer.put("large", &large(",").replacen('1', "2", 1))
            .assert_problem(409);
        let padded = format!("[1,{}2]", " ".repeat(100_000));
        for (key, first, second) in [("a", "[1,2]", &*padded), ("b", &*padded, "[1.0,2]")] {
            peer.put(key, first).assert_created();
            peer.put(key, second).assert_created();
            peer.put(key, first).assert_created();
            peer.put(key, "[1,3]").assert_problem(409);
        }
    }
}

#[test]
fn same_value_has_no_limit_of_exponent_or_depth() {
    let deep = |value: &str| {
        let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
        format!("{open}{value}{close}")
    };
    for arguments in SINKS {
        let peer = Peer::builder().arguments(arguments).start();
        for (key, held, same, other) in [
            (
                "power",
                "1e99999999999999999999",
                "10e99999999999999999998",
                "1e99999999999999999998",
            ),
            ("zero", "0e99999999999999999999", "0", "1"),
            ("deep", &*deep("1"), &*deep(" 1.0"), &*deep("2")),
        ] {
            peer.put(key, held).assert_created();
            peer.put(key, same).assert_created();
            peer.put(key, other).assert_problem(409);
        }
    }
}

/// The event is read only for a comparison, which fails because the digest of its text does not match.
#[test]
fn conflict_with_damaged_large_event_is_an_error() {
    let peer = Peer::start();
    let event = format!("\"{}\"", "x".repeat(100_000));
    peer.put("key1", &event).assert_created();
    let database = Database::open(peer.file("alldata.db")).expect("opens");
    let damage = "UPDATE events SET event = replace(event, 'xx', 'xy') WHERE key = 'key1'";
    assert_eq!(database.execute(damage, ()).expect("is done"), 1);
    peer.put("key1", "1").assert_problem(500);
    peer.put("key2", "1").assert_created();
}

#[test]
fn store_of_version_1_can_be_read_and_moved() {
    let peer = Peer::builder().start();
    let old = peer.file("old.db");
    let database = Database::open(&old).expect("opens");
    let sql = "PRAGMA application_id = 0x41447065; PRAGMA user_version = 1; PRAGMA journal_mode = WAL;
         CREATE TABLE events (key TEXT PRIMARY KEY NOT NULL, event TEXT NOT NULL, digest BLOB NOT NULL,
             received_ms INTEGER NOT NULL) STRICT;";
    database.execute_batch(sql).expect("is made");
    let digest = alldata_peer_server_http::store::digest("key1", "[1]");
    let row = "INSERT INTO events VALUES ('key1', '[1]', ?1, 1)";
    database.execute(row, [&digest[..]]).expect("is put");
    let store = format!("sqlite:{}", old.display());
    let get = run(&["get", "key1", "--store", &store]);
    assert_eq!((get.code, &*get.stdout), (Some(0), "[1]\n"), "{get:?}");
    let exported = run(&["export", "--store", &store]);
    let refused = run_with_input(&["import", "-", "--store", &store], &exported.stdout);
    let message = refused.assert_failed(1);
    assert!(
        message.contains("version 1") && message.contains("export"),
        "{message}"
    );
    let imported = run_with_input(&["import", "-", "--store", &peer.store()], &exported.stdout);
    assert_eq!(imported.code, Some(0), "{imported:?}");
    peer.put("key1", "[2]").assert_problem(409);
}
