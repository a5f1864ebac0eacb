//! Another database that is copied over the store of a running server.

use std::fs;

use rusqlite::Connection as Database;
use rustix::process::Signal;

use crate::store_files::{assert_holds, assert_refused, end};
use crate::support::{Peer, run, serve};

/// The last event distinguishes a backup from the store, whatever its key.
#[test]
fn older_copy_of_the_store_is_refused() {
    for (old, new) in [("zz", "aa"), ("aa", "zz")] {
        let peer = Peer::start();
        let (database, store) = (peer.file("alldata.db"), peer.store());
        let (mark, wal) = (
            peer.file("alldata.db.overwritten"),
            peer.file("alldata.db-wal"),
        );
        put_all(&peer, old);
        let peer = end(peer, Signal::TERM);
        let backup = fs::read(&database).expect("reads");
        let peer = peer.start();
        put_all(&peer, new);
        let peer = end(peer, Signal::TERM).start();
        // The WAL has the last pages, and only these resemble the store.
        peer.put(&format!("{new}-last"), "1").assert_created();
        fs::write(&database, &backup).expect("writes");
        assert_refused(&peer, "takes no puts until");
        let (status, peer) = peer.end(Signal::TERM);
        assert_eq!(status.code(), Some(1));
        assert!(mark.exists(), "{new}");
        let output = run(&serve(&store));
        let reason = output.assert_failed(1);
        assert!(reason.contains("alldata.db.overwritten"), "{reason}");
        fs::remove_file(&mark).expect("removes");
        // The event of the newer database.
        let output = run(&serve(&store));
        let reason = output.assert_failed(1);
        assert!(reason.contains("alldata.db-wal"), "{reason}");
        fs::remove_file(wal).expect("removes");
        peer.start().put("after", "1").assert_created();
    }
}

/// Puts events that fill many pages.
fn put_all(peer: &Peer, prefix: &str) {
    let event = format!("\"{}\"", "x".repeat(1000));
    for number in 100..300 {
        peer.put(&format!("{prefix}{number}"), &event)
            .assert_created();
    }
}

#[test]
fn database_of_another_program_is_never_written_to() {
    let peer = Peer::start();
    let (database, other) = (peer.file("alldata.db"), peer.file("other.db"));
    let sql = "CREATE TABLE t (a); INSERT INTO t VALUES (1), (2);";
    let created = Database::open(&other).and_then(|other| other.execute_batch(sql));
    created.expect("is made");
    for key in ["one", "two", "three"] {
        peer.put(key, "1").assert_created();
    }
    let foreign = fs::read(&other).expect("reads");
    fs::write(&database, &foreign).expect("writes");
    assert_refused(&peer, "takes no puts until");
    let copy = peer.file("alldata.db.rescued");
    let _peer = end(peer, Signal::TERM);
    assert_eq!(fs::read(&database).expect("reads"), foreign);
    for key in ["one", "two", "three"] {
        assert_holds(&copy, key);
    }
}
