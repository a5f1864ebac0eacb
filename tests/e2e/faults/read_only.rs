//! A file system that is read-only at the start, or becomes so.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use fastrand::Rng;
use rustix::process::Signal;

use super::full::OnOwnDisk;
use super::{History, Load, Outcome, RoundCounts, Rounds, conclude};
use crate::support::{
    DEADLINE, Output, Peer, PeerBuilder, can_make, files_beside, no_own_disk, run_by, serve,
    serve_on_read_only_disk,
};

/// More space than any load uses.
const ROOM_KIBIBYTES: u64 = 256 * 1024;

#[test]
fn fails_puts_until_writable_again() {
    if can_make("read_only", no_own_disk()) {
        Rounds::of("read_only", 2).play(round);
    }
}

fn round(rng: &mut Rng) -> RoundCounts {
    let mut history = History::default();
    let peer = Peer::builder().on_own_disk(ROOM_KIBIBYTES).start();
    let store = OnOwnDisk(&peer);
    let load = Load::of_own_keys("put", rng.usize(2..=8));
    let clients = history.start_clients(peer.address(), &load, rng);
    clients.wait_for_answers(rng.usize(1..400));
    make_read_only(&peer);
    clients.forget_outcomes();
    clients.wait_for_outcomes(rng.usize(1..100), Outcome::Unknown);
    peer.log_line("readonly");
    peer.remount("rw").expect("is no more read-only");
    clients.forget_outcomes();
    clients.wait_for_outcomes(100, Outcome::Acknowledged);
    history.read(&store);
    history.add(clients);
    conclude(history, &store, rng)
}

/// A file system can't become read-only while a file is open for writing, as that of a store is. An error makes
/// the server close its files until it reconnects.
fn make_read_only(peer: &Peer) {
    peer.limit_file_size(Some(1));
    let start = Instant::now();
    while let Err(error) = peer.remount("ro") {
        assert!(start.elapsed() < DEADLINE, "{error}");
        thread::yield_now();
    }
    peer.limit_file_size(None);
}

#[test]
fn at_start_is_an_error() {
    if !can_make("read_only", no_own_disk()) {
        return;
    }
    let nothing = tempfile::tempdir().expect("makes a directory");
    assert_says(
        &serve_on_read_only_disk(nothing.path()),
        "Read-only file system",
    );
    // One that was closed properly, and one that still has to be recovered.
    for signal in [Signal::TERM, Signal::KILL] {
        let (store, _ended) = store_with_a_put(signal);
        let directory = store.parent().expect("is in a directory");
        assert_says(&serve_on_read_only_disk(directory), "readonly");
    }
}

#[test]
fn at_start_changes_nothing() {
    // Root may write everywhere, unless it has no capabilities.
    let launcher: &[&str] = match rustix::process::geteuid().is_root() {
        true => &["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
        false => &["env"],
    };
    for signal in [Signal::TERM, Signal::KILL] {
        let (store, _ended) = store_with_a_put(signal);
        let directory = store.parent().expect("is in a directory");
        for file in files_beside(&store).keys() {
            fs::set_permissions(file, Permissions::from_mode(0o444)).expect("sets");
        }
        fs::set_permissions(directory, Permissions::from_mode(0o555)).expect("sets");
        let before = files_beside(&store);
        let url = format!("sqlite:{}", store.display());
        assert_says(&run_by(launcher, &serve(&url)), "readonly");
        assert!(files_beside(&store) == before, "a file was changed");
        // So that the directory can be removed.
        fs::set_permissions(directory, Permissions::from_mode(0o755)).expect("sets");
    }
}

/// A store whose server was ended by a signal, and its directory.
fn store_with_a_put(signal: Signal) -> (PathBuf, PeerBuilder) {
    let peer = Peer::start();
    peer.put("key1", "1").assert_created();
    let store = peer.file("alldata.db");
    let (_, ended) = peer.end(signal);
    (store, ended)
}

#[track_caller]
fn assert_says(output: &Output, reason: &str) {
    let sentence = output.assert_failed(1);
    assert!(sentence.contains("alldata.db: "), "{sentence}");
    assert!(sentence.contains(reason), "{sentence}");
}
