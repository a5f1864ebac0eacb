//! Files of a store that are moved, removed, cut off or replaced while a server has them open.
//!
//! Asserted in each case: nothing is acknowledged that the next start does not find, the log names what
//! happened, and all events that were acknowledged before are there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use alldata_peer_server_http::store::StoreReader;
use rusqlite::Connection as Database;
use rustix::process::Signal;

use crate::store_wal::long_reader;
use crate::support::{Peer, PeerBuilder, can_make, no_own_disk, run, serve, wait_until};

#[test]
fn moved_database_refuses_puts_and_keeps_its_events() {
    let peer = with_one_event();
    let (here, away) = (peer.file("alldata.db"), peer.file("away.db"));
    fs::rename(&here, &away).expect("moves");
    assert_refused(&peer, "was moved");
    let next = end(peer, Signal::TERM);
    assert_holds(&away, "before");
    assert!(!here.exists(), "a new store was made");
    // New events are in the moved file, not in a WAL that is left at the old path.
    fs::rename(&away, &here).expect("moves back");
    assert_intact(&next.start(), &["before"]);
}

#[test]
fn moved_database_is_used_again_once_it_is_back() {
    let peer = with_one_event();
    let (here, away) = (peer.file("alldata.db"), peer.file("away.db"));
    for round in 0..3 {
        fs::rename(&here, &away).expect("moves");
        assert_refused(&peer, "was moved");
        fs::rename(&away, &here).expect("moves back");
        peer.put(&format!("after{round}"), "1").assert_created();
        peer.log_line("puts are taken again");
    }
    let peer = end(peer, Signal::KILL).start();
    assert_intact(&peer, &["before", "after0", "after1", "after2"]);
}

#[test]
fn moved_database_is_checkpointed_once_the_reader_ends() {
    let peer = with_one_event();
    let reader = long_reader(&peer);
    peer.put("beside a reader", "1").assert_created();
    let (here, away) = (peer.file("alldata.db"), peer.file("away.db"));
    fs::rename(&here, &away).expect("moves");
    assert_refused(&peer, "was moved");
    reader.execute_batch("COMMIT").expect("ends");
    drop(reader);
    peer.log_line("all acknowledged events are in");
    let _next = end(peer, Signal::KILL);
    assert_holds(&away, "before");
    assert_holds(&away, "beside a reader");
}

#[test]
fn idle_moved_database_is_checkpointed_before_a_kill() {
    let peer = with_one_event();
    let away = peer.file("away.db");
    fs::rename(peer.file("alldata.db"), &away).expect("moves");
    peer.log_line("all acknowledged events are in");
    let _next = end(peer, Signal::KILL);
    assert_holds(&away, "before");
}

#[test]
fn moved_database_is_not_created_again_after_a_kill() {
    let peer = with_one_event();
    peer.signal(Signal::STOP);
    let (here, away) = (peer.file("alldata.db"), peer.file("away.db"));
    fs::rename(&here, &away).expect("moves");
    let store = peer.store();
    let next = end(peer, Signal::KILL);
    for arguments in [
        &["import", "/dev/null", "--store", &store][..],
        &[
            "serve",
            "--port=0",
            "--hostname=127.0.0.1",
            "--sink",
            &store,
        ],
    ] {
        let output = run(arguments);
        let sentence = output.assert_failed(1);
        assert!(sentence.contains("alldata.db-wal"), "{sentence}");
    }
    fs::rename(&away, &here).expect("moves back");
    assert_intact(&next.start(), &["before"]);
}

#[test]
fn removed_database_is_rescued_and_found_at_the_next_start() {
    for signal in [Signal::TERM, Signal::KILL] {
        let peer = with_one_event();
        let here = peer.file("alldata.db");
        fs::remove_file(&here).expect("removes");
        assert_refused(&peer, "was removed");
        peer.log_line("alldata.db.rescued");
        let next = end(peer, signal);
        let peer = next.start();
        assert_intact(&peer, &["before"]);
    }
}

#[test]
fn removed_directory_is_rescued() {
    let peer = Peer::builder().sink("sqlite:inner/alldata.db");
    let peer = peer.launched_by(&["sh", "-c", "mkdir -p inner; exec \"$0\" \"$@\""]);
    let peer = peer.start();
    peer.put("before", "1").assert_created();
    let inner = peer.file("inner");
    fs::remove_dir_all(&inner).expect("removes");
    assert_refused(&peer, "was removed");
    peer.log_line("alldata.db.rescued");
    let next = end(peer, Signal::TERM).sink("sqlite:inner/alldata.db");
    assert_holds(&inner.join("alldata.db.rescued"), "before");
    let peer = next.start();
    peer.put("before", "2").assert_problem(409);
}

#[test]
fn moved_directory_refuses_puts_until_it_is_back() {
    let peer = Peer::builder().sink("sqlite:inner/alldata.db");
    let peer = peer.launched_by(&["sh", "-c", "mkdir -p inner; exec \"$0\" \"$@\""]);
    let peer = peer.start();
    peer.put("before", "1").assert_created();
    let (inner, away) = (peer.file("inner"), peer.file("away"));
    fs::rename(&inner, &away).expect("moves");
    assert_refused(&peer, "was moved");
    assert_holds(&away.join("alldata.db"), "before");
    fs::rename(&away, &inner).expect("moves back");
    peer.put("after", "1").assert_created();
    let _next = end(peer, Signal::KILL);
    assert_holds(&inner.join("alldata.db"), "after");
}

/// As if to move a store to a larger disk, but with the server running.
#[test]
fn database_moved_behind_a_link_takes_its_wal_along() {
    let peer = with_one_event();
    let (here, larger) = (peer.file("alldata.db"), peer.file("larger"));
    fs::create_dir(&larger).expect("makes a directory");
    let there = larger.join("alldata.db");
    fs::rename(&here, &there).expect("moves");
    symlink(&there, &here).expect("links");
    wait_until("puts are taken", || peer.put("after", "1").status == 201);
    let peer = end(peer, Signal::KILL).start();
    assert_intact(&peer, &["before", "after"]);
}

#[test]
fn file_behind_a_link_is_rescued_beside_it() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let file = directory.path().join("real.db");
    let peer = Peer::builder();
    let link = directory.path().join("link.db");
    symlink(&file, &link).expect("links");
    let url = format!("sqlite:{}", link.display());
    let peer = peer.sink(&url).start();
    peer.put("before", "1").assert_created();
    fs::remove_file(&file).expect("removes");
    peer.log_line("real.db.rescued");
    let peer = end(peer, Signal::TERM).sink(&url).start();
    peer.put("before", "2").assert_problem(409);
    assert!(link.is_symlink());
}

#[test]
fn database_cut_off_is_rescued_and_found_at_the_next_start() {
    let peer = with_one_event();
    cut(&peer.file("alldata.db"), 0);
    assert_refused(&peer, "was cut off");
    peer.log_line("alldata.db.rescued");
    let peer = end(peer, Signal::TERM).start();
    assert_intact(&peer, &["before"]);
}

#[test]
fn other_store_moved_over_the_database_is_never_written_to() {
    let backup = with_one_event();
    backup.put("of the backup", "1").assert_created();
    let from = backup.file("alldata.db");
    let _backup = end(backup, Signal::TERM);
    let peer = with_one_event();
    peer.put("later", "1").assert_created();
    let here = peer.file("alldata.db");
    let bytes = fs::read(&from).expect("reads");
    let beside = peer.file("backup.db");
    fs::write(&beside, &bytes).expect("writes");
    fs::rename(&beside, &here).expect("replaces");
    assert_refused(&peer, "was replaced");
    let rescued = peer.file("alldata.db.rescued");
    peer.log_line("alldata.db.rescued");
    assert_refused(&peer, "was replaced");
    let store = peer.store();
    let next = end(peer, Signal::TERM);
    // Only an operator can decide which of the two is the store.
    let output = run(&serve(&store));
    let sentence = output.assert_failed(1);
    assert!(sentence.contains("alldata.db.rescued"), "{sentence}");
    assert!(
        fs::read(&here).expect("reads") == bytes,
        "it was written to"
    );
    assert_holds(&rescued, "later");
    let kept = beside.with_extension("kept");
    fs::rename(&rescued, kept).expect("renames");
    let peer = next.start();
    assert_intact(&peer, &["before", "of the backup"]);
    peer.put("later", "2").assert_created();
}

#[test]
fn file_copied_over_the_database_stops_puts() {
    let backup = with_one_event();
    let from = backup.file("alldata.db");
    let _backup = end(backup, Signal::TERM);
    let peer = with_one_event();
    for number in 0..10 {
        peer.put(&format!("later{number}"), "1").assert_created();
    }
    fs::copy(&from, peer.file("alldata.db")).expect("copies");
    peer.log_line("was written to by another program");
    let answer = peer.put("after", "1");
    let peer = end(peer, Signal::TERM).start();
    assert_intact(&peer, &["before", "later0", "later9"]);
    if answer.status == 201 {
        assert_eq!(peer.get("after"), "1\n");
    }
}

/// Changes by another program that uses SQLite are no fault.
#[test]
fn checkpoints_of_another_program_are_no_change() {
    let peer = with_one_event();
    let other = Database::open(peer.file("alldata.db")).expect("opens");
    for round in 0..5 {
        for mode in ["PASSIVE", "RESTART", "TRUNCATE"] {
            let checkpoint = format!("PRAGMA wal_checkpoint({mode})");
            let done = other.query_row(&checkpoint, (), |_| Ok(()));
            done.expect("is done");
            let key = format!("{mode}{round}");
            peer.put(&key, "1").assert_created();
        }
        other.execute_batch("VACUUM").expect("is done");
        peer.put(&format!("VACUUM{round}"), "1").assert_created();
    }
    drop(other);
    peer.signal(Signal::TERM);
    let log = peer.rest_of_stderr();
    assert!(!log.iter().any(|line| line.contains("ERROR")), "{log:?}");
}

#[test]
fn redirected_link_refuses_puts_until_restored() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    for place in [&one, &two] {
        fs::create_dir(place).expect("makes a directory");
    }
    let link = directory.path().join("current");
    symlink(&one, &link).expect("links");
    let url = format!("sqlite:{}", link.join("alldata.db").display());
    let peer = Peer::builder().sink(&url).start();
    peer.put("before", "1").assert_created();
    fs::remove_file(&link).expect("removes");
    symlink(&two, &link).expect("links");
    assert_refused(&peer, "alldata.db");
    fs::remove_file(&link).expect("removes");
    symlink(&one, &link).expect("links");
    peer.put("after", "1").assert_created();
    let _next = end(peer, Signal::TERM);
    assert_holds(&one.join("alldata.db"), "after");
    assert!(!two.join("alldata.db").exists(), "a new store was made");
}

#[test]
fn disk_mounted_over_the_store_refuses_puts_until_it_is_gone() {
    if !can_make("disk_mounted_over", no_own_disk()) {
        return;
    }
    let peer = Peer::builder().on_own_disk(64 << 10).start();
    peer.put("before", "1").assert_created();
    peer.cover_disk(true);
    assert_refused(&peer, "was moved away");
    peer.cover_disk(false);
    peer.put("after", "1").assert_created();
    let exported = peer.run_on_disk("export");
    // Puts during the mount may be stored, as the response said.
    let events = exported.events().len();
    assert!([2, 3].contains(&events), "{exported:?}");
}

#[test]
fn store_with_several_names_is_refused_at_the_start() {
    let peer = with_one_event();
    let (here, other) = (peer.file("alldata.db"), peer.file("other.db"));
    let store = peer.store();
    let _next = end(peer, Signal::TERM);
    fs::hard_link(&here, &other).expect("links");
    let serve = [
        "serve",
        "--port=0",
        "--hostname=127.0.0.1",
        "--sink",
        &store,
    ];
    for arguments in [&serve[..], &["import", "/dev/null", "--store", &store]] {
        let output = run(arguments);
        let sentence = output.assert_failed(1);
        assert!(sentence.contains("2 hard links"), "{sentence}");
    }
    // Backups by hard links can be read.
    let get = run(&["get", "before", "--store", &store]);
    assert_eq!((get.code, get.stdout.as_str()), (Some(0), "1\n"));
}

#[test]
fn new_name_of_a_running_store_is_a_warning() {
    let peer = with_one_event();
    fs::hard_link(peer.file("alldata.db"), peer.file("other.db")).expect("links");
    peer.put("after", "1").assert_created();
    peer.log_line("2 hard links");
}

/// A server with the sink `sqlite:` and the event 1 under the key `before`.
pub(crate) fn with_one_event() -> Peer {
    let peer = Peer::start();
    peer.put("before", "1").assert_created();
    peer
}

pub(crate) fn end(peer: Peer, signal: Signal) -> PeerBuilder {
    let (status, next) = peer.end(signal);
    if signal == Signal::TERM {
        assert_eq!(status.code(), Some(0));
    }
    next
}

pub(crate) fn cut(path: &Path, bytes: u64) {
    let file = fs::File::options().write(true).open(path).expect("opens");
    file.set_len(bytes).expect("cuts off");
}

/// Asserts that a put is not acknowledged, and that the log says why.
#[track_caller]
pub(crate) fn assert_refused(peer: &Peer, reason: &str) {
    let problem = peer.put("refused", "1").assert_problem(500);
    assert_eq!(problem["stored"], "unknown");
    // Other lines may name the reason too.
    while !peer.log_line(reason).contains("ERROR") {}
}

/// Asserts that a store which no server has open has the event 1 under a key.
#[track_caller]
pub(crate) fn assert_holds(path: &Path, key: &str) {
    let store = StoreReader::open(path).expect("opens");
    let event = store.get(key).expect("reads");
    assert_eq!(event.as_deref(), Some("1"), "{key}");
    assert!(store.verify(|_| {}).expect("verifies").is_clean());
}

/// Asserts that the store of a server has these keys with the event 1, and is undamaged.
#[track_caller]
pub(crate) fn assert_intact(peer: &Peer, keys: &[&str]) {
    for key in keys {
        assert_eq!(peer.get(key), "1\n", "{key}");
        peer.put(key, "2").assert_problem(409);
    }
    run(&["verify", "--store", &peer.store()]).assert_ok();
}

/// Ends a server that could not copy acknowledged events, and returns its remaining log.
pub(crate) fn end_with_loss(mut peer: Peer) -> Vec<String> {
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(1));
    let log = peer.rest_of_stderr();
    let last = log.last().expect("the loss is logged");
    let expected = "error: acknowledged events may be lost";
    assert!(last.starts_with(expected), "{last}");
    log
}
