//! The store on a full disk, and beside other programs that move, lock or read it.
//!
//! Kills of a server without such a fault are in `durability`, damaged files in `store_damage`.

use std::fs;

use rusqlite::Connection as Database;
use rustix::process::Signal;

use crate::load::{Events, assert_same, exported};
use crate::support::{Peer, Post, run, wait_until};

/// More puts than any of these tests has room for.
const MAX_PUTS: usize = 2000;

#[test]
fn full_disk_fails_puts_until_there_is_room() {
    let mut peer = Peer::start();
    peer.limit_file_size(Some(256 << 10));
    let Filled {
        acknowledged,
        failed,
    } = fill(&peer, 1 << 10);
    assert_same(&exported(&peer.store()), &acknowledged);
    peer.limit_file_size(None);
    for (key, event) in &failed {
        peer.put(key, event).assert_created();
    }
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    let mut all = acknowledged;
    all.extend(failed);
    assert_same(&exported(&peer.store()), &all);
    run(&["verify", "--store", &peer.store()]).assert_ok();
}

#[test]
fn unwritable_log_costs_no_response() {
    let mut peer = Peer::builder()
        .sink(&Peer::nobody().url())
        .log_to("/dev/full")
        .start();
    for _ in 0..3 {
        peer.put("key1", "1").assert_problem(503);
    }
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
}

#[test]
fn missing_store_is_not_created_again() {
    let peer = Peer::start();
    peer.put("key1", "1").assert_created();
    // A write error, after which the server reconnects to the store.
    peer.limit_file_size(Some(1));
    peer.put("key2", "1").assert_problem(500);
    let (here, away) = (peer.file("alldata.db"), peer.file("away"));
    fs::rename(&here, &away).expect("moves");
    peer.limit_file_size(None);
    peer.put("key1", "2").assert_problem(500);
    assert!(!here.exists());
    fs::rename(&away, &here).expect("moves");
    peer.put("key1", "2").assert_problem(409);
    peer.put("key1", "1").assert_created();
}

#[test]
fn large_event_is_compared_with_stored_one() {
    let peer = Peer::start();
    let large = format!("[\"{}\"]", "x".repeat(1 << 20));
    peer.put("large", &large).assert_created();
    peer.put("large", &large).assert_created();
    peer.put("large", &format!("[ {}", &large[1..]))
        .assert_created();
    peer.put("large", "1").assert_problem(409);
    assert_eq!(peer.get("large"), format!("{large}\n"));
}

#[test]
fn special_names_of_sqlite_are_plain_files() {
    let peer = Peer::builder().sink("sqlite::memory:").start();
    peer.put("key1", "1").assert_created();
    assert!(peer.file(":memory:").exists());
}

#[test]
fn full_disk_at_a_checkpoint_loses_nothing() {
    // More than the WAL grows to before SQLite checkpoints it.
    let mut peer = Peer::start();
    peer.limit_file_size(Some(6 << 20));
    let Filled {
        acknowledged,
        failed,
    } = fill(&peer, 64 << 10);
    assert_same(&exported(&peer.store()), &acknowledged);
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    assert_same(&exported(&peer.store()), &acknowledged);
    run(&["verify", "--store", &peer.store()]).assert_ok();
    assert!(!failed.is_empty());
}

/// The file system has room: only the write itself fails.
#[test]
fn file_size_limit_within_a_checkpoint_loses_nothing_and_heals() {
    for signal in [Signal::TERM, Signal::KILL] {
        let peer = Peer::start();
        // The database reaches the limit before the WAL, which is reused after each checkpoint.
        peer.limit_file_size(Some(12 << 20));
        let Filled {
            mut acknowledged,
            failed,
        } = fill(&peer, 64 << 10);
        assert!(!failed.is_empty());
        peer.log_line("cannot checkpoint the WAL");
        assert_same(&exported(&peer.store()), &acknowledged);
        let next = match signal {
            Signal::KILL => peer.end(Signal::KILL).1,
            _ => {
                peer.limit_file_size(None);
                let put = || peer.put("healed", "1").status == 201;
                wait_until("puts are taken", put);
                acknowledged.insert("healed".to_owned(), "1".to_owned());
                peer.end(signal).1
            }
        };
        assert_recovered(&next.start(), &acknowledged, &failed);
    }
}

#[test]
fn kill_on_a_full_disk_loses_nothing() {
    let peer = Peer::start();
    peer.limit_file_size(Some(256 << 10));
    let Filled {
        acknowledged,
        failed,
    } = fill(&peer, 1 << 10);
    let (_, next) = peer.end(Signal::KILL);
    assert_recovered(&next.start(), &acknowledged, &failed);
}

#[test]
fn locked_store_is_unavailable_until_unlocked() {
    let peer = Peer::start();
    let lock = Database::open(peer.file("alldata.db")).expect("opens");
    lock.execute_batch("BEGIN IMMEDIATE").expect("locks");
    let locked = peer.put("key1", "1");
    let problem = locked.assert_problem(503);
    assert_eq!(problem["stored"], "no");
    assert_eq!(problem["retry"], true);
    let seconds: Option<u64> = locked
        .header("retry-after")
        .and_then(|value| value.parse().ok());
    assert!(seconds.is_some_and(|seconds| seconds > 0), "{locked:?}");
    lock.execute_batch("ROLLBACK").expect("unlocks");
    peer.put("key1", "1").assert_created();
}

#[test]
fn put_waits_for_lock() {
    let peer = Peer::start();
    let lock = Database::open(peer.file("alldata.db")).expect("opens");
    lock.execute_batch("BEGIN IMMEDIATE").expect("locks");
    let mut waiting = peer.connect();
    waiting.send(Post::put("key1", "1").bytes());
    // A put that waits delays no other request.
    peer.send(&Post::new("nonsense")).assert_problem(400);
    lock.execute_batch("ROLLBACK").expect("unlocks");
    waiting.answer().assert_created();
}

#[test]
fn reader_does_not_block_puts() {
    let peer = Peer::start();
    peer.put("key1", "1").assert_created();
    let reader = Database::open(peer.file("alldata.db")).expect("opens");
    reader.execute_batch("BEGIN").expect("begins");
    let count = || -> i64 {
        let count = reader.query_row("SELECT count(*) FROM events", (), |row| row.get(0));
        count.expect("counts")
    };
    assert_eq!(count(), 1);
    peer.put("key2", "2").assert_created();
    assert_eq!(count(), 1);
    reader.execute_batch("COMMIT").expect("ends");
    assert_eq!(count(), 2);
}

/// The outcomes of puts to a server that has less room than they take.
struct Filled {
    acknowledged: Events,
    failed: Events,
}

/// Puts events of `bytes` bytes each until five have failed.
fn fill(peer: &Peer, bytes: usize) -> Filled {
    let (mut acknowledged, mut failed) = (Events::new(), Events::new());
    let mut connection = peer.connect();
    for number in 0..MAX_PUTS {
        let (key, event) = (
            format!("key{number:05}"),
            format!("\"{}\"", "x".repeat(bytes)),
        );
        let answer = connection.send(Post::put(&key, &event).bytes()).answer();
        if answer.status == 201 {
            acknowledged.insert(key, event);
            continue;
        }
        let detail = answer.detail(500).to_lowercase();
        for internal in ["sql", "i/o", "disk", "alldata.db", "os error"] {
            assert!(!detail.contains(internal), "{detail}");
        }
        failed.insert(key, event);
        if failed.len() == 5 {
            break;
        }
    }
    assert_eq!(failed.len(), 5, "there was room for all");
    assert!(!acknowledged.is_empty());
    Filled {
        acknowledged,
        failed,
    }
}

/// Asserts that a server that was started again has all acknowledged events and no other, and takes the failed ones.
#[track_caller]
fn assert_recovered(peer: &Peer, acknowledged: &Events, failed: &Events) {
    assert_same(&exported(&peer.store()), acknowledged);
    for (key, event) in failed {
        peer.put(key, event).assert_created();
    }
    run(&["verify", "--store", &peer.store()]).assert_ok();
}
