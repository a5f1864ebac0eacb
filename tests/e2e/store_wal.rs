//! The WAL of a store beside a long reader: its limit, its warnings, and how it shrinks.
//!
//! Changes by another program are in `store_wal_files`.

use std::fs;
use std::path::Path;

use rusqlite::Connection as Database;
use rustix::process::Signal;

use crate::support::{Peer, can_make, no_strace, run, wait_until};

const MEBIBYTE: u64 = 1 << 20;

/// Since Linux 6.13 a file whose times were read gets a new one with its next write, which ext4 commits to its
/// journal with each sync.
#[test]
fn puts_do_not_read_the_times_of_the_wal() {
    if !can_make("tracing of calls", no_strace()) {
        return;
    }
    let log = tempfile::NamedTempFile::new().expect("a file");
    let path = log.path().to_str().expect("is Unicode");
    // strace runs as a grandchild, so that the program stays a child of the test.
    let launcher = [
        "strace",
        "-D",
        "-f",
        "-qq",
        "-e",
        "trace=statx,newfstatat,fsync",
        "-o",
        path,
    ];
    let peer = Peer::builder().launched_by(&launcher).start();
    peer.put("first", "1").assert_created();
    let calls = || fs::read_to_string(path).expect("is Unicode");
    let before = calls().len();
    peer.put("second", "2").assert_created();
    let calls = calls().split_off(before);
    assert!(calls.contains("fsync("), "{calls}");
    let of_wal = calls.lines().filter(|line| line.contains("-wal\""));
    let of_wal: Vec<_> = of_wal.collect();
    assert!(!of_wal.is_empty(), "{calls}");
    for call in of_wal {
        assert!(call.contains("statx("), "{call}");
        let asked = call.split(", {stx").next().unwrap_or_default();
        let times = ["STATX_ALL", "STATX_BASIC_STATS", "TX_MTIME", "TX_CTIME"];
        assert!(!times.iter().any(|time| asked.contains(time)), "{call}");
    }
}

#[test]
fn wal_beyond_its_limit_refuses_puts_until_the_reader_ends() {
    let peer = Peer::builder().arguments(&["--max-wal", "8388608"]).start();
    peer.put("first", "1").assert_created();
    let reader = long_reader(&peer);
    let (wal, event) = (peer.file("alldata.db-wal"), event_of(MEBIBYTE));
    let mut created = 0;
    let refused = loop {
        let answer = peer.put(&format!("key{created}"), &event);
        if answer.status != 201 {
            break answer;
        }
        created += 1;
        assert!(created < 32, "the WAL has no limit");
    };
    let problem = refused.assert_problem(503);
    assert_eq!(problem["stored"], "no");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    peer.log_line("--max-wal");
    assert!(created > 4, "{created} puts");
    assert!(bytes_of(&wal) < 12 * MEBIBYTE);
    drop(reader);
    peer.put("after", "1").assert_created();
    wait_until("the WAL shrinks", || bytes_of(&wal) <= 8 * MEBIBYTE);
    let (_, next) = peer.end(Signal::KILL);
    let peer = next.start();
    assert_eq!(peer.get("after"), "1\n");
    run(&["verify", "--store", &peer.store()]).assert_ok();
}

#[test]
fn large_wal_is_logged_and_shrinks_on_an_idle_server() {
    let peer = Peer::start();
    peer.put("first", "1").assert_created();
    let reader = long_reader(&peer);
    let (wal, event) = (peer.file("alldata.db-wal"), event_of(10 * MEBIBYTE));
    for number in 0..15 {
        peer.put(&format!("key{number}"), &event).assert_created();
    }
    let line = peer.log_line("has grown to");
    assert!(line.contains("WARN"), "{line}");
    // And again at twice the size.
    peer.log_line("has grown to");
    drop(reader);
    // Without a further put.
    wait_until("the WAL shrinks", || bytes_of(&wal) < 2 * MEBIBYTE);
    peer.put("first", "2").assert_problem(409);
}

#[test]
fn limit_of_the_wal_has_a_smallest_value() {
    for wrong in ["0", "1", "4194303", "x"] {
        let output = run(&["serve", "--port=0", "--max-wal", wrong]);
        let sentence = output.assert_failed(2);
        assert!(sentence.contains("invalid value"), "{sentence}");
    }
}

/// A transaction that reads the one event of the store, and keeps the WAL from shrinking.
pub(crate) fn long_reader(peer: &Peer) -> Database {
    let reader = Database::open(peer.file("alldata.db")).expect("opens");
    reader.execute_batch("BEGIN").expect("begins");
    let count = "SELECT count(*) FROM events";
    let events: i64 = reader
        .query_row(count, (), |row| row.get(0))
        .expect("reads");
    assert_eq!(events, 1);
    reader
}

fn event_of(bytes: u64) -> String {
    format!(
        "\"{}\"",
        "x".repeat(usize::try_from(bytes).expect("is small"))
    )
}

fn bytes_of(path: &Path) -> u64 {
    fs::metadata(path).expect("is there").len()
}
