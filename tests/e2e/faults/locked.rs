//! A store that another process locks: at the start, and repeatedly under load.
//!
//! Damaged stores are in `store_damage`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use fastrand::Rng;
use rusqlite::Connection as Database;
use rustix::process::Signal;

use super::{History, Load, Outcome, RoundCounts, Rounds, conclude};
use crate::support::{DEADLINE, Peer, files_beside, run, serve};

#[test]
fn delays_puts_or_refuses_them() {
    Rounds::of("locked", 1).play(round);
}

fn round(rng: &mut Rng) -> RoundCounts {
    let mut history = History::default();
    let peer = Peer::start();
    let load = Load::of_own_keys("put", rng.usize(2..=8));
    let clients = history.start_clients(peer.address(), &load, rng);
    let other = Database::open(peer.file("alldata.db")).expect("opens");
    other.busy_timeout(DEADLINE).expect("is set");
    let locks = rng.usize(2..=6);
    let longest = rng.usize(..locks);
    for number in 0..locks {
        clients.wait_for_answers(rng.usize(1..100));
        other.execute_batch("BEGIN EXCLUSIVE").expect("locks");
        if number == longest {
            clients.forget_outcomes();
            clients.wait_for_outcomes(1, Outcome::Refused);
            history.read(&peer);
        }
        other.execute_batch("ROLLBACK").expect("unlocks");
        // Another writer may also checkpoint the WAL.
        other
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))
            .expect("is done");
    }
    clients.forget_outcomes();
    clients.wait_for_outcomes(50, Outcome::Acknowledged);
    history.add(clients);
    conclude(history, &peer, rng)
}

#[test]
fn at_start_is_an_error_and_changes_nothing() {
    let peer = Peer::start();
    peer.put("key1", "1").assert_created();
    let (path, store) = (peer.file("alldata.db"), peer.store());
    let (_, next) = peer.end(Signal::TERM);
    let lock = Database::open(&path).expect("opens");
    let lock_all = "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT;";
    lock.execute_batch(lock_all).expect("locks");
    assert_locked(&path, &store);
    drop(lock);
    let peer = next.start();
    peer.put("key1", "1").assert_created();
    peer.put("key1", "2").assert_problem(409);
}

/// A database that another process has begun to create is not created by this one.
#[test]
fn empty_file_at_start_is_unchanged() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = directory.path().join("alldata.db");
    let lock = Database::open(&path).expect("opens");
    lock.execute_batch("BEGIN EXCLUSIVE").expect("locks");
    let store = format!("sqlite:{}", path.display());
    assert_locked(&path, &store);
    lock.execute_batch("COMMIT").expect("unlocks");
    let peer = Peer::builder().sink(&store).start();
    peer.put("key1", "1").assert_created();
}

/// Asserts that the program gives up on a store by itself, says why, and changes nothing.
#[track_caller]
fn assert_locked(path: &Path, store: &str) {
    let before = copies_beside(path);
    let output = run(&serve(store));
    let sentence = output.assert_failed(1);
    assert!(sentence.contains("locked"), "{sentence}");
    assert!(
        sentence.contains(path.to_str().expect("is text")),
        "{sentence}"
    );
    assert!(copies_beside(path) == before, "a file was changed");
}

/// The files of a directory with their bytes, read by another process: if this process closed a file of a
/// database, it would release all of its locks on it.
fn copies_beside(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let copies = tempfile::tempdir().expect("makes a directory");
    let directory = path.parent().expect("is in a directory").join(".");
    let mut copy = Command::new("cp");
    let status = copy.arg("-R").arg(directory).arg(copies.path()).status();
    assert!(status.expect("runs").success());
    let files = files_beside(&copies.path().join("any")).into_iter();
    let names = files.map(|(path, bytes)| {
        let name = Path::new(&path).file_name().expect("has a name").to_owned();
        (name, bytes)
    });
    names.collect()
}
