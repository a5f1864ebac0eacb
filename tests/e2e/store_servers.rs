//! A store that other programs than one server have open: changes by SQLite are no fault, changes that bypass
//! SQLite are.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::thread;

use rusqlite::Connection as Database;
use rustix::process::Signal;

use crate::store_files::{assert_intact, assert_refused, end, with_one_event};
use crate::support::{Peer, Post, wait_until};

/// More puts than a server leaves in the WAL: a checkpoint follows.
const CHECKPOINTED_BYTES: usize = 5 << 20;

#[test]
fn checkpoints_of_another_server_are_no_foreign_write() {
    let left = end(with_one_event(), Signal::TERM).start();
    let right = Peer::builder().sink(&left.store()).start();
    // By hand, so that no key identifies the store.
    let database = Database::open(left.file("alldata.db")).expect("opens");
    let deleted = database.execute("DELETE FROM events WHERE key = 'before'", ());
    assert_eq!(deleted, Ok(1));
    let large = large_event();
    for round in 0..6 {
        let put = |peer: &Peer, name: &str, event: &str| {
            let answer = peer.put(&format!("{name}{round}"), event);
            assert_eq!(answer.status, 201, "{name}{round}: {answer:?}");
        };
        put(&right, "large", &large);
        // Restarts the WAL.
        put(&right, "small", "1");
        put(&left, "left", "1");
        put(&right, "between", "1");
        put(&right, "larger", &large);
        put(&left, "again", "1");
    }
    drop(database);
    assert_no_foreign_write(right);
    assert_no_foreign_write(left);
}

#[test]
fn servers_under_load_take_no_checkpoint_for_a_foreign_write() {
    let left = with_one_event();
    let right = Peer::builder().sink(&left.store()).start();
    let event = format!("\"{}\"", "x".repeat(300 << 10));
    thread::scope(|scope| {
        for (name, address) in [("left", left.address()), ("right", right.address())] {
            for client in 0..2 {
                let event = &event;
                scope.spawn(move || {
                    for number in 0..40 {
                        let put = Post::put(&format!("{name}-{client}-{number}"), event);
                        wait_until("it is put", || put.send_to(address).status == 201);
                    }
                });
            }
        }
    });
    assert_no_foreign_write(right);
    assert_no_foreign_write(left);
}

#[test]
fn bytes_of_another_store_in_the_database_are_never_written_to() {
    let backup = with_one_event();
    let from = backup.file("alldata.db");
    let _backup = end(backup, Signal::TERM);
    let bytes = fs::read(&from).expect("reads");
    for has_other in [false, true] {
        let peer = with_one_event();
        let other = has_other.then(|| Peer::builder().sink(&peer.store()).start());
        let large = large_event();
        peer.put("large", &large).assert_created();
        for number in 0..3 {
            peer.put(&format!("later{number}"), "1").assert_created();
        }
        if let Some(other) = &other {
            // So that it has seen the checkpoint.
            other.put("mine", "1").assert_created();
        }
        let here = peer.file("alldata.db");
        write_over(&here, &bytes);
        // It is shorter, too.
        assert_refused(&peer, "while the server has it open");
        if let Some(other) = &other {
            assert_refused(other, "while the server has it open");
        }
        drop(other);
        // Events that were only in the database can't be copied.
        let (status, _next) = peer.end(Signal::TERM);
        assert_eq!(status.code(), Some(1));
        assert!(
            fs::read(&here).expect("reads") == bytes,
            "it was written to"
        );
    }
}

/// Another server that started when the file had gone, and has created a new one.
#[test]
fn server_joins_another_with_new_shared_memory() {
    let left = with_one_event();
    let reader = Database::open(left.file("alldata.db")).expect("opens");
    let count = reader.query_row("SELECT count(*) FROM events", (), |row| row.get(0));
    assert_eq!(count, Ok(1));
    fs::remove_file(left.file("alldata.db-shm")).expect("removes");
    left.log_line("all acknowledged events are in");
    let right = Peer::builder().sink(&left.store()).start();
    right.put("right", "1").assert_created();
    drop(reader);
    wait_until("puts are taken", || left.put("left", "1").status == 201);
    right.put("left", "2").assert_problem(409);
    left.put("right", "2").assert_problem(409);
    drop(right);
    let left = end(left, Signal::KILL).start();
    assert_intact(&left, &["before", "left", "right"]);
}

fn large_event() -> String {
    format!("\"{}\"", "x".repeat(CHECKPOINTED_BYTES))
}

/// Overwrites a file, which is never empty meanwhile.
fn write_over(path: &Path, bytes: &[u8]) {
    let mut file = File::options().write(true).open(path).expect("opens");
    file.write_all(bytes).expect("writes");
    file.set_len(bytes.len() as u64).expect("cuts off");
}

/// Ends a server, and asserts that it attributed no change to another program than SQLite.
#[track_caller]
fn assert_no_foreign_write(mut peer: Peer) {
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    let log = peer.rest_of_stderr();
    let is_taken = |line: &String| line.contains("another program") || line.contains("ERROR");
    assert!(!log.iter().any(is_taken), "{log:#?}");
}
