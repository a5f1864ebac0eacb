//! A `-wal` that does not belong to the database beside it, put there while a server runs or not.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection as Database, OpenFlags};
use rustix::process::Signal;

use crate::store_files::{assert_holds, assert_intact, end};
use crate::support::{Peer, PeerBuilder, run, serve, wait_until};

/// More events than fit one page of the database.
const EVENTS: usize = 300;

#[test]
fn wal_of_another_store_beside_an_idle_reader_is_never_applied() {
    for signal in [Signal::TERM, Signal::KILL] {
        for reader_ends_first in [true, false] {
            let (_directory, foreign) = foreign_wal();
            let peer = Peer::start();
            put_all(&peer, "own");
            // A reader that does not remove the WAL when it ends.
            let reader = idle_reader(&peer, OpenFlags::SQLITE_OPEN_READ_ONLY);
            replace_wal(&peer, &foreign);
            peer.log_line("was replaced");
            if signal == Signal::KILL {
                peer.log_line("all acknowledged events are in");
            }
            let next = end(peer, signal);
            let peer = if reader_ends_first {
                drop(reader);
                next.start()
            } else {
                let peer = next.start();
                drop(reader);
                peer
            };
            peer.put("after", "1").assert_created();
            let peer = end(peer, Signal::KILL).start();
            assert_own(&peer);
            assert_intact(&peer, &["after"]);
        }
    }
}

#[test]
fn wal_of_another_store_is_set_aside_while_the_server_runs() {
    let (_directory, foreign) = foreign_wal();
    let peer = Peer::start();
    put_all(&peer, "own");
    replace_wal(&peer, &foreign);
    peer.log_line("alldata.db.foreign-wal");
    wait_until("puts are taken", || peer.put("after", "1").status == 201);
    let aside = fs::read(peer.file("alldata.db.foreign-wal")).expect("reads");
    assert!(
        aside == fs::read(&foreign).expect("reads"),
        "it was changed"
    );
    let peer = end(peer, Signal::TERM).start();
    assert_own(&peer);
}

#[test]
fn wal_of_another_store_beside_a_closed_store_refuses_the_start() {
    let (_directory, foreign) = foreign_wal();
    let peer = Peer::start();
    put_all(&peer, "own");
    let (store, database) = (peer.store(), peer.file("alldata.db"));
    let wal = peer.file("alldata.db-wal");
    let next = end(peer, Signal::TERM);
    let bytes = fs::read(&database).expect("reads");
    fs::copy(&foreign, &wal).expect("copies");
    for arguments in [
        &serve(&store)[..],
        &["import", "/dev/null", "--store", &store],
    ] {
        let output = run(arguments);
        let sentence = output.assert_failed(1);
        assert!(sentence.contains("alldata.db-wal"), "{sentence}");
    }
    assert!(
        fs::read(&database).expect("reads") == bytes,
        "it was changed"
    );
    assert!(fs::read(&wal).expect("reads") == fs::read(&foreign).expect("reads"));
    fs::remove_file(&wal).expect("removes");
    assert_own(&next.start());
}

/// It would undo events that were acknowledged after it was saved.
#[test]
fn older_wal_of_the_same_store_refuses_the_start() {
    refuse_older_wal(|_database| {});
}

#[test]
fn older_wal_beside_a_damaged_newest_event_refuses_the_start() {
    refuse_older_wal(|database| tear(database, "later299", TornRange::HalfOfKey));
}

fn refuse_older_wal(damage: impl Fn(&Path)) {
    let peer = Peer::start();
    put_all(&peer, "own");
    let (store, wal, saved) = (
        peer.store(),
        peer.file("alldata.db-wal"),
        peer.file("saved"),
    );
    let database = peer.file("alldata.db");
    let peer = end(peer, Signal::TERM).start();
    peer.put("earlier", "1").assert_created();
    let next = end(peer, Signal::KILL);
    fs::copy(&wal, &saved).expect("copies");
    let peer = next.start();
    put_all(&peer, "later");
    let next = end(peer, Signal::TERM);
    fs::copy(&saved, &wal).expect("copies");
    let whole = fs::read(&database).expect("reads");
    damage(&database);
    let output = run(&serve(&store));
    let sentence = output.assert_failed(1);
    assert!(sentence.contains("alldata.db-wal"), "{sentence}");
    fs::remove_file(&wal).expect("removes");
    fs::write(&database, whole).expect("writes");
    let peer = next.start();
    assert_own(&peer);
    assert_intact(&peer, &["earlier", "later0", "later299"]);
}

/// A loss of power during a checkpoint may leave sectors of the old page in the new one. The WAL has the whole page.
#[test]
fn torn_page_of_the_database_is_no_reason_to_refuse() {
    for range in [TornRange::HalfOfKey, TornRange::Sector] {
        let peer = Peer::start();
        put_all(&peer, "own");
        let (database, wal) = (peer.file("alldata.db"), peer.file("alldata.db-wal"));
        let saved = peer.file("saved");
        let peer = end(peer, Signal::TERM).start();
        peer.put("own-and-newest", "1").assert_created();
        let next = end(peer, Signal::KILL);
        fs::copy(&wal, &saved).expect("copies");
        let next = end(next.start(), Signal::TERM);
        tear(&database, "own-and-newest", range);
        fs::rename(&saved, &wal).expect("restores");
        let peer = next.start();
        assert_own(&peer);
        assert_intact(&peer, &["own-and-newest"]);
    }
}

/// Other programs may open a store, and have tables of their own in it.
#[test]
fn rows_of_other_tables_in_the_wal_are_no_reason_to_refuse() {
    let peer = Peer::start();
    put_all(&peer, "own");
    let path = peer.file("alldata.db");
    let peer = end(peer, Signal::TERM).start();
    let other = Database::open(path).expect("opens");
    let sql = "CREATE TABLE notes (note TEXT);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
        INSERT INTO notes SELECT 'a note of some length, number ' || i FROM n;
        ANALYZE;";
    other.execute_batch(sql).expect("writes");
    let next = end(peer, Signal::KILL);
    drop(other);
    assert_own(&next.start());
}

#[test]
fn backup_moved_over_the_database_beside_a_reader_keeps_its_events() {
    for signal in [Signal::TERM, Signal::KILL] {
        let (_directory, backup) = closed_store();
        let peer = Peer::start();
        put_all(&peer, "own");
        let (database, store) = (peer.file("alldata.db"), peer.store());
        let reader = idle_reader(&peer, OpenFlags::default());
        reader.execute_batch("BEGIN").expect("begins");
        count(&reader);
        put_all(&peer, "later");
        fs::copy(&backup, peer.file("backup.db")).expect("copies");
        fs::rename(peer.file("backup.db"), &database).expect("replaces");
        peer.log_line("were copied to");
        let rescued = peer.file("alldata.db.rescued");
        let next = end(peer, signal);
        drop(reader);
        let output = run(&serve(&store));
        let sentence = output.assert_failed(1);
        assert!(sentence.contains("alldata.db.rescued"), "{sentence}");
        assert_holds(&rescued, "later0");
        fs::rename(&rescued, rescued.with_extension("kept")).expect("moves");
        assert!(fs::read(&database).expect("reads") == fs::read(&backup).expect("reads"));
        let peer = next.start();
        let exported = run(&["export", "--store", &store]);
        assert_eq!(exported.events().len(), EVENTS);
        assert_intact(&peer, &["other0", "other299"]);
    }
}

/// The reader ends while the server still waits for exclusive access.
#[test]
fn wal_of_another_store_is_never_applied_once_the_reader_ends() {
    let (_directory, foreign) = foreign_wal();
    let peer = Peer::start();
    put_all(&peer, "own");
    let reader = idle_reader(&peer, OpenFlags::SQLITE_OPEN_READ_ONLY);
    replace_wal(&peer, &foreign);
    peer.log_line("all acknowledged events are in");
    drop(reader);
    wait_until("puts are taken", || peer.put("after", "1").status == 201);
    let peer = end(peer, Signal::KILL).start();
    assert_own(&peer);
    assert_intact(&peer, &["after"]);
}

/// As if to restore a backup, but beside the WAL of a killed server.
#[test]
fn backup_beside_the_wal_of_the_store_refuses_the_start() {
    let (_directory, backup) = closed_store();
    let peer = Peer::start();
    put_all(&peer, "own");
    let (database, store) = (peer.file("alldata.db"), peer.store());
    let next = end(peer, Signal::KILL);
    let own = fs::read(&database).expect("reads");
    fs::copy(&backup, &database).expect("copies");
    let output = run(&serve(&store));
    let sentence = output.assert_failed(1);
    assert!(sentence.contains("alldata.db-wal"), "{sentence}");
    assert!(fs::read(&database).expect("reads") == fs::read(&backup).expect("reads"));
    // Neither file has lost anything.
    fs::write(&database, own).expect("restores");
    assert_own(&next.start());
}

/// A store that was closed properly, with other events than those of the tests.
fn closed_store() -> (PeerBuilder, PathBuf) {
    let other = Peer::start();
    put_all(&other, "other");
    let database = other.file("alldata.db");
    (end(other, Signal::TERM), database)
}

/// The WAL of a killed server.
fn foreign_wal() -> (PeerBuilder, PathBuf) {
    let other = Peer::start();
    put_all(&other, "other");
    let wal = other.file("alldata.db-wal");
    (end(other, Signal::KILL), wal)
}

/// Replaces the WAL of a server by a copy of another one, at once.
fn replace_wal(peer: &Peer, foreign: &Path) {
    fs::copy(foreign, peer.file("foreign")).expect("copies");
    fs::rename(peer.file("foreign"), peer.file("alldata.db-wal")).expect("replaces");
}

/// The bytes that a loss of power has not written.
#[derive(Clone, Copy)]
enum TornRange {
    /// The second half of a key, as if a sector began there.
    HalfOfKey,
    /// The whole sector that has the end of a key.
    Sector,
}

/// Overwrites a part of the pages that have a key with zeros.
fn tear(database: &Path, key: &str, range: TornRange) {
    const SECTOR_BYTES: usize = 512;
    let mut bytes = fs::read(database).expect("reads");
    let places: Vec<usize> = (0..bytes.len())
        .filter(|place| bytes[*place..].starts_with(key.as_bytes()))
        .collect();
    assert!(!places.is_empty(), "the key is not in the database");
    for place in places {
        let end = place + key.len();
        let torn = match range {
            TornRange::HalfOfKey => place + key.len() / 2..end,
            TornRange::Sector => {
                let start = (end - 1) / SECTOR_BYTES * SECTOR_BYTES;
                start..start + SECTOR_BYTES
            }
        };
        bytes[torn].fill(0);
    }
    fs::write(database, bytes).expect("writes");
}

fn put_all(peer: &Peer, prefix: &str) {
    for number in 0..EVENTS {
        peer.put(&format!("{prefix}{number}"), "1").assert_created();
    }
}

/// A program that has the store open, without a transaction.
fn idle_reader(peer: &Peer, flags: OpenFlags) -> Database {
    let reader = Database::open_with_flags(peer.file("alldata.db"), flags).expect("opens");
    assert_eq!(count(&reader), EVENTS as i64);
    reader
}

fn count(reader: &Database) -> i64 {
    let count = reader.query_row("SELECT count(*) FROM events", (), |row| row.get(0));
    count.expect("reads")
}

fn assert_own(peer: &Peer) {
    let exported = run(&["export", "--store", &peer.store()]);
    let events = exported.events();
    for number in 0..EVENTS {
        let key = format!("own{number}");
        assert!(events.contains_key(&key), "{key} is lost");
    }
    assert!(!events.keys().any(|key| key.starts_with("other")));
    run(&["verify", "--store", &peer.store()]).assert_ok();
}
