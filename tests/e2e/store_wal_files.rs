//! The `-wal` and the `-shm` of a store that are removed, cut off or replaced while a server runs.
//!
//! Asserted in each case: all acknowledged events are there after a kill, and puts are acknowledged again.

use std::fs;

use rusqlite::Connection as Database;
use rustix::process::Signal;

use crate::store_files::{assert_intact, cut, end, with_one_event};
use crate::support::{Peer, Post, can_make, no_own_disk, run, wait_until};

#[test]
fn removed_wal_and_shm_are_created_again() {
    for names in [&["-wal"][..], &["-shm"], &["-wal", "-shm"]] {
        let peer = with_one_event();
        for name in names {
            fs::remove_file(peer.file(&format!("alldata.db{name}"))).expect("removes");
        }
        peer.log_line("was removed");
        wait_until("puts are taken", || peer.put("after", "1").status == 201);
        let peer = end(peer, Signal::KILL).start();
        assert_intact(&peer, &["before", "after"]);
    }
}

/// No put arrives between the removal and the kill.
#[test]
fn removed_wal_of_an_idle_server_loses_nothing_in_a_kill() {
    let peer = with_one_event();
    fs::remove_file(peer.file("alldata.db-wal")).expect("removes");
    peer.log_line("all acknowledged events are in");
    let peer = end(peer, Signal::KILL).start();
    assert_intact(&peer, &["before"]);
}

#[test]
fn put_right_after_a_removal_is_not_lost() {
    for name in ["", "-wal", "-shm"] {
        for signal in [Signal::TERM, Signal::KILL] {
            let peer = with_one_event();
            fs::remove_file(peer.file(&format!("alldata.db{name}"))).expect("removes");
            let answer = peer.put("after", "1");
            let peer = end(peer, signal).start();
            assert_intact(&peer, &["before"]);
            if answer.status == 201 {
                assert_eq!(peer.get("after"), "1\n");
            }
        }
    }
}

#[test]
fn replaced_wal_is_created_again() {
    let peer = with_one_event();
    let other = with_one_event();
    other.put("other", "1").assert_created();
    let foreign = peer.file("foreign");
    fs::copy(other.file("alldata.db-wal"), &foreign).expect("copies");
    fs::rename(&foreign, peer.file("alldata.db-wal")).expect("replaces");
    peer.log_line("was replaced");
    wait_until("puts are taken", || peer.put("after", "1").status == 201);
    let peer = end(peer, Signal::KILL).start();
    assert_intact(&peer, &["before", "after"]);
    peer.put("other", "2").assert_created();
}

#[test]
fn wal_overwritten_in_place_loses_nothing() {
    let other = Peer::start();
    for number in 0..30 {
        other.put(&format!("other{number}"), "1").assert_created();
    }
    let peer = with_one_event();
    fs::copy(other.file("alldata.db-wal"), peer.file("alldata.db-wal")).expect("copies");
    peer.log_line("was written to by another program");
    wait_until("puts are taken", || peer.put("after", "1").status == 201);
    let peer = end(peer, Signal::KILL).start();
    assert_intact(&peer, &["before", "after"]);
}

/// Both had the WAL that is gone, and both continue with the same new one.
#[test]
fn two_servers_agree_on_a_new_wal() {
    for name in ["-wal", "-shm"] {
        let left = with_one_event();
        let right = Peer::builder().sink(&left.store()).start();
        right.put("right", "1").assert_created();
        fs::remove_file(left.file(&format!("alldata.db{name}"))).expect("removes");
        left.log_line("ERROR");
        for (peer, other) in [(&left, &right), (&right, &left)] {
            let key = format!("after{}", peer.id());
            wait_until("puts are taken", || peer.put(&key, "1").status == 201);
            wait_until("puts are taken", || other.put("x", "1").status == 201);
            other.put(&key, "2").assert_problem(409);
        }
        let (left_key, right_key) = (
            format!("after{}", left.id()),
            format!("after{}", right.id()),
        );
        drop(right);
        let left = end(left, Signal::KILL).start();
        assert_intact(&left, &["before", "right", &left_key, &right_key]);
    }
}

/// The server that wrote last has all of it in memory.
#[test]
fn one_of_two_servers_rescues_a_truncated_wal() {
    let left = with_one_event();
    let right = Peer::builder().sink(&left.store()).start();
    right.put("right", "1").assert_created();
    cut(&left.file("alldata.db-wal"), 40);
    wait_until("puts are taken", || right.put("after", "1").status == 201);
    drop(right);
    let left = end(left, Signal::KILL).start();
    assert_intact(&left, &["before", "right", "after"]);
}

#[test]
fn shared_memory_cut_off_loses_nothing() {
    let peer = with_one_event();
    cut(&peer.file("alldata.db-shm"), 0);
    // SQLite has it mapped into memory: the system ends the process.
    let mut connection = peer.connect();
    connection.send(Post::put("after", "1").bytes());
    let peer = end(peer, Signal::KILL).start();
    assert_intact(&peer, &["before"]);
}

#[test]
fn wal_cut_off_loses_nothing() {
    for bytes in [0, 31, 5000] {
        let peer = with_one_event();
        for number in 0..20 {
            peer.put(&format!("more{number}"), "1").assert_created();
        }
        cut(&peer.file("alldata.db-wal"), bytes);
        peer.log_line("was cut off");
        wait_until("puts are taken", || peer.put("after", "1").status == 201);
        let peer = end(peer, Signal::KILL).start();
        assert_intact(&peer, &["before", "more0", "more19", "after"]);
    }
}

#[test]
fn wal_cut_off_beside_a_reader_is_put_back_at_the_next_start() {
    for signal in [Signal::TERM, Signal::KILL] {
        let peer = with_one_event();
        let reader = Database::open(peer.file("alldata.db")).expect("opens");
        let count = reader.query_row("SELECT count(*) FROM events", (), |row| row.get(0));
        let count: i64 = count.expect("reads");
        assert_eq!(count, 1);
        cut(&peer.file("alldata.db-wal"), 0);
        peer.log_line("alldata.db.rescued-wal");
        let next = end(peer, signal);
        drop(reader);
        let peer = next.start();
        assert_intact(&peer, &["before"]);
        assert!(!peer.file("alldata.db.rescued-wal").exists());
    }
}

/// A reader keeps later events from being checkpointed, except for some pages, which are useless without the
/// rest.
#[test]
fn wal_removed_beside_a_reader_is_rescued() {
    for signal in [Signal::TERM, Signal::KILL] {
        for moved_to in [None, Some("elsewhere")] {
            let (peer, reader) = beside_a_reader();
            let wal = peer.file("alldata.db-wal");
            match moved_to {
                None => fs::remove_file(&wal).expect("removes"),
                Some(name) => fs::rename(&wal, peer.file(name)).expect("moves"),
            }
            peer.log_line("alldata.db.rescued-wal");
            let next = end(peer, signal);
            drop(reader);
            let peer = next.start();
            assert_intact(&peer, &["before", "beside"]);
            let exported = run(&["export", "--store", &peer.store()]);
            assert_eq!(exported.events().len(), 2 + 2 * EVENTS);
            assert!(!peer.file("alldata.db.rescued-wal").exists());
        }
    }
}

#[test]
fn wal_removed_beside_a_reader_is_checkpointed_once_the_reader_ends() {
    let (peer, reader) = beside_a_reader();
    fs::remove_file(peer.file("alldata.db-wal")).expect("removes");
    peer.log_line("alldata.db.rescued-wal");
    drop(reader);
    wait_until("puts are taken", || peer.put("after", "1").status == 201);
    assert!(!peer.file("alldata.db.rescued-wal").exists());
    let peer = end(peer, Signal::KILL).start();
    assert_intact(&peer, &["before", "beside", "after"]);
    let exported = run(&["export", "--store", &peer.store()]);
    assert_eq!(exported.events().len(), 3 + 2 * EVENTS);
}

/// A copy from the first time lacks the events that were put after it.
#[test]
fn wal_moved_away_twice_beside_a_reader_is_rescued_twice() {
    let peer = with_one_event();
    let reader = Database::open(peer.file("alldata.db")).expect("opens");
    reader.execute_batch("BEGIN").expect("begins");
    let count = reader.query_row("SELECT count(*) FROM events", (), |row| row.get(0));
    let count: i64 = count.expect("reads");
    assert_eq!(count, 1);
    let (wal, away) = (peer.file("alldata.db-wal"), peer.file("away"));
    let copy = peer.file("alldata.db.rescued-wal");
    for key in ["first", "second"] {
        wait_until("puts are taken", || peer.put(key, "1").status == 201);
        assert!(!copy.exists(), "{key}");
        fs::rename(&wal, &away).expect("moves");
        wait_until("a copy is made", || copy.exists());
        if key == "first" {
            fs::rename(&away, &wal).expect("moves back");
        }
    }
    let next = end(peer, Signal::KILL);
    drop(reader);
    let peer = next.start();
    assert_intact(&peer, &["before", "first", "second"]);
}

/// The number of events before a reader begins, and beside it: more than one checkpoint moves.
const EVENTS: usize = 800;

/// Some events fit many to a page, others take several pages.
const EVENT_BYTES: [usize; 6] = [10, 10, 10, 200, 1500, 9000];

/// A server with a reader, which has put more than it could checkpoint.
fn beside_a_reader() -> (Peer, Database) {
    let peer = with_one_event();
    let mut random = fastrand::Rng::with_seed(1);
    let mut put_all = || {
        for _ in 0..EVENTS {
            // In random order, so that each put changes other pages.
            let key = format!("{:016x}", random.u64(..));
            let bytes = random.choice(EVENT_BYTES).expect("is one of them");
            let event = format!("\"{}\"", "x".repeat(bytes));
            peer.put(&key, &event).assert_created();
        }
    };
    put_all();
    let reader = Database::open(peer.file("alldata.db")).expect("opens");
    reader.execute_batch("BEGIN").expect("begins");
    let count = reader.query_row("SELECT count(*) FROM events", (), |row| row.get(0));
    let count: i64 = count.expect("reads");
    assert_eq!(count, 1 + EVENTS as i64);
    put_all();
    peer.put("beside", "1").assert_created();
    (peer, reader)
}

/// Half of the contents of an unlinked WAL would destroy the database.
#[test]
fn wal_removed_on_a_full_disk_leaves_the_database_intact() {
    if !can_make("wal_removed_on_a_full_disk", no_own_disk()) {
        return;
    }
    let peer = Peer::builder().on_own_disk(6 << 10).start();
    peer.put("before", "1").assert_created();
    let event = format!("\"{}\"", "x".repeat(50_000));
    for number in 0..20 {
        peer.put(&format!("key{number}"), &event).assert_created();
    }
    let filler = peer.file_on_disk("filler");
    let script = format!("dd if=/dev/zero of={} bs=1k 2>/dev/null", filler.display());
    peer.run_beside(&script);
    let wal = peer.file_on_disk("alldata.db-wal").display().to_string();
    peer.run_beside(&format!("rm {wal}"));
    peer.log_line("no room to checkpoint the WAL");
    peer.put("full", "1").assert_problem(500);
    peer.run_beside(&format!("rm {}", filler.display()));
    wait_until("puts are taken", || peer.put("after", "1").status == 201);
    let exported = peer.run_on_disk("export");
    let events = exported.events();
    assert_eq!(events.len(), 22);
    peer.run_on_disk("verify").assert_ok();
    assert!(!peer.file_on_disk("alldata.db.overwritten").exists());
}

/// Only the write itself shows that it would fail.
#[test]
fn wal_removed_under_a_file_size_limit_leaves_the_database_intact() {
    let peer = with_one_event();
    let event = format!("\"{}\"", "x".repeat(50_000));
    for number in 0..20 {
        peer.put(&format!("key{number}"), &event).assert_created();
    }
    peer.limit_file_size(Some(200_000));
    fs::remove_file(peer.file("alldata.db-wal")).expect("removes");
    peer.log_line("no room to checkpoint the WAL");
    peer.put("full", "1").assert_problem(500);
    peer.limit_file_size(None);
    wait_until("puts are taken", || peer.put("after", "1").status == 201);
    let peer = end(peer, Signal::KILL).start();
    assert_intact(&peer, &["before", "after"]);
    let exported = run(&["export", "--store", &peer.store()]);
    assert_eq!(exported.events().len(), 22);
    assert!(!peer.file("alldata.db.overwritten").exists());
}
