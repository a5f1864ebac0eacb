//! A file system that is read-only at the start, or from some moment on.
//!
//! Never a file that only some may write to, but for what a server makes of one at the start.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use fastrand::Rng;
use rustix::process::Signal;

use super::full::OnOwnDisk;
use super::{History, Load, Outcome, Rounds, Tally, conclude};
use crate::support::{
    DEADLINE, Output, Peer, PeerBuilder, can_make, files_beside, no_own_disk, run_by, serve,
    serve_on_read_only_disk,
};

/// More room than any load takes.
const ROOM_KIBIBYTES: u64 = 256 * 1024;

#[test]
fn fails_puts_until_writable_again() {
    if can_make("read_only", no_own_disk()) {
        Rounds::of("read_only", 2).play(round);
    }
}

fn round(rng: &mut Rng) -> Tally {
    let mut history = History::default();
    let peer = Peer::builder().on_own_disk(ROOM_KIBIBYTES).start();
    let store = OnOwnDisk(&peer);
    let load = Load::of_own_keys("put", rng.usize(2..=8));
    let crowd = history.crowd(peer.address(), &load, rng);
    crowd.wait_for_answers(rng.usize(1..400));
    make_read_only(&peer);
    crowd.forget_outcomes();
    crowd.wait_for_outcomes(rng.usize(1..100), Outcome::Unknown);
    peer.log_line("readonly");
    peer.remount("rw").expect("is no more read-only");
    crowd.forget_outcomes();
    crowd.wait_for_outcomes(100, Outcome::Acknowledged);
    history.read(&store);
    history.add(crowd);
    conclude(history, &store, rng)
}

/// No file system becomes read-only while a file is open to be written to, and a store has such. An
/// error has the server close them, between one try to open them again and the next.
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
    // One that ended in good order, and one that has still to be recovered.
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
        // So that it can be removed.
        fs::set_permissions(directory, Permissions::from_mode(0o755)).expect("sets");
    }
}

/// A store whose server was ended by a signal, and what keeps its directory.
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
