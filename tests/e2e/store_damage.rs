//! Damaged stores, and files that are no store: what is refused at the start, and what `verify` finds.

use std::fs;
use std::path::Path;

use rusqlite::Connection as Database;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Peer, files_beside, run, run_with_input, serve};

#[test]
fn damaged_event_fails_alone_and_is_found() {
    let peer = Peer::start();
    peer.put("damaged", "\"text\"").assert_created();
    let database = Database::open(peer.file("alldata.db")).expect("opens");
    let damage = "UPDATE events SET event = CAST(x'22FF22' AS TEXT) WHERE key = 'damaged'";
    assert_eq!(database.execute(damage, ()).expect("is done"), 1);
    let import = "{\"key\":\"damaged\",\"event\":1}\n{\"key\":\"whole\",\"event\":1}\n";
    let output = run_with_input(&["import", "-", "--store", &peer.store()], import);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("line 1:"), "{output:?}");
    assert_eq!(peer.get("whole"), "1\n");
    peer.put("damaged", "1").assert_problem(500);
    let verify = run(&["verify", "--store", &peer.store()]);
    assert_eq!(verify.code, Some(1), "{verify:?}");
    assert!(verify.stderr.contains("damaged: \"damaged\""), "{verify:?}");
    assert!(verify.stderr.contains("1 of 2 events"), "{verify:?}");
    let get = run(&["get", "damaged", "--store", &peer.store()]);
    assert!(
        get.assert_failed(1).contains("\"damaged\" is damaged"),
        "{get:?}"
    );
}

/// Keys are read in steps, each from the last key of the previous step: here that key is damaged.
#[test]
fn damaged_key_ends_the_export() {
    let lines: String = (0..600)
        .map(|number| format!("{{\"key\":\"key{number:04}\",\"event\":1}}\n"))
        .collect();
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = directory.path().join("a.db");
    let store = format!("sqlite:{}", path.display());
    run_with_input(&["import", "-", "--store", &store], &lines).assert_ok();
    // The last key of the first step, so that it sorts before all others, or after them.
    for damaged in [b"\x01ey0255", b"\x7fey0255"] {
        let mut bytes = fs::read(&path).expect("reads");
        let places: Vec<usize> = (0..bytes.len() - 7)
            .filter(|place| &bytes[place + 1..place + 7] == b"ey0255")
            .collect();
        assert!(!places.is_empty());
        for place in places {
            bytes[place..place + 7].copy_from_slice(damaged);
        }
        fs::write(&path, bytes).expect("writes");
        let verify = run(&["verify", "--store", &store]);
        assert_eq!(verify.code, Some(1), "{verify:?}");
        assert!(verify.stderr.contains("structure: "), "{verify:?}");
        assert_eq!(run(&["export", "--store", &store]).code, Some(1));
    }
}

#[test]
fn random_bytes_are_no_store() {
    let directory = directory();
    let path = directory.path().join("random.db");
    fs::write(&path, random_bytes(100_000)).expect("is written");
    assert_refused(&path, "not a database");
}

#[test]
fn text_is_no_store() {
    let directory = directory();
    let path = directory.path().join("notes.txt");
    fs::write(&path, "Bread, milk.\n").expect("is written");
    assert_refused(&path, "not a database");
}

#[test]
fn database_of_another_program_is_no_store() {
    for mode in ["DELETE", "WAL"] {
        let directory = directory();
        let path = directory.path().join("other.db");
        let database = Database::open(&path).expect("opens");
        let sql = format!(
            "PRAGMA journal_mode = {mode};
             CREATE TABLE events (key TEXT PRIMARY KEY, event TEXT);
             INSERT INTO events VALUES ('key1', '1');"
        );
        database.execute_batch(&sql).expect("is made");
        drop(database);
        assert_refused(&path, "another program");
    }
}

#[test]
fn newer_store_is_left_unchanged() {
    let directory = directory();
    let path = directory.path().join("newer.db");
    let store = format!("sqlite:{}", path.display());
    let line = "{\"key\":\"key1\",\"event\":1}\n";
    let imported = run_with_input(&["import", "-", "--store", &store], line);
    assert_eq!(imported.code, Some(0), "{imported:?}");
    let database = Database::open(&path).expect("opens");
    database
        .pragma_update(None, "user_version", 3)
        .expect("is set");
    drop(database);
    assert_refused(&path, "version 3");
}

/// Damage that SQLite detects when it opens the file; the application id is intact.
#[test]
fn truncated_store_is_not_served() {
    let directory = directory();
    let path = directory.path().join("damaged.db");
    let store = format!("sqlite:{}", path.display());
    let lines: String = (0..400)
        .map(|number| format!("{{\"key\":\"key{number}\",\"event\":{number}}}\n"))
        .collect();
    run_with_input(&["import", "-", "--store", &store], &lines).assert_ok();
    let whole = fs::read(&path).expect("is there");
    let mut no_schema = whole.clone();
    no_schema[100..2100].copy_from_slice(&random_bytes(2000));
    let half = whole[..whole.len() / 2].to_vec();
    for damaged in [half, whole[..5000].to_vec(), no_schema] {
        fs::write(&path, damaged).expect("is written");
        let before = files_beside(&path);
        let output = run(&serve(&store));
        let sentence = output.assert_failed(1);
        assert!(sentence.contains("malformed"), "{sentence}");
        assert!(files_beside(&path) == before, "a file was changed");
    }
}

/// Also if the events can't be counted because of the damage.
#[test]
fn damaged_page_is_named_by_verify() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = directory.path().join("e.db");
    let store = format!("sqlite:{}", path.display());
    let lines: String = (0..2000)
        .map(|number| {
            format!(
                "{{\"key\":\"key{number:05}\",\"event\":\"{}\"}}\n",
                "x".repeat(500)
            )
        })
        .collect();
    run_with_input(&["import", "-", "--store", &store], &lines).assert_ok();
    let mut bytes = fs::read(&path).expect("reads");
    let whole = bytes.len();
    // Every fourth page: some of the table and some of its index.
    for page in bytes.chunks_mut(4096).skip(3).step_by(4) {
        page.fill(0xa5);
    }
    assert_eq!(bytes.len(), whole);
    fs::write(&path, bytes).expect("damages");
    let output = run(&["verify", "--store", &store]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("structure: "), "{output:?}");
    assert!(output.stderr.contains("page "), "{output:?}");
}

#[test]
fn damage_behind_an_intact_beginning_is_found() {
    let peer = Peer::start();
    for number in 0..200 {
        let event = format!("\"{}\"", "x".repeat(500));
        peer.put(&format!("key{number}"), &event).assert_created();
    }
    let path = peer.file("alldata.db");
    let store = peer.store();
    let (_, ended) = peer.end(Signal::TERM);
    let whole = fs::read(&path).expect("is there");
    let mut random = whole.clone();
    let middle = whole.len() / 2;
    random[middle..middle + 8192].copy_from_slice(&random_bytes(8192));
    for damaged in [random, whole[..middle].to_vec()] {
        fs::write(&path, damaged).expect("is written");
        let found = run(&["verify", "--store", &store]);
        assert_eq!(found.code, Some(1), "{found:?}");
        assert!(!found.stderr.contains("panicked"), "{found:?}");
    }
    drop(ended);
}

/// Asserts that every command refuses the file with `reason` and changes no file beside it.
#[track_caller]
fn assert_refused(path: &Path, reason: &str) {
    let store = format!("sqlite:{}", path.display());
    let line = "{\"key\":\"key1\",\"event\":2}\n";
    let before = files_beside(path);
    let outputs = [
        run(&serve(&store)),
        run(&["get", "key1", "--store", &store]),
        run(&["export", "--store", &store]),
        run(&["verify", "--store", &store]),
        run_with_input(&["import", "-", "--store", &store], line),
    ];
    for output in outputs {
        let sentence = output.assert_failed(1);
        assert!(sentence.contains(reason), "{sentence}");
        let path = path.to_str().expect("is text");
        assert!(sentence.contains(path), "{sentence}");
    }
    assert!(files_beside(path) == before, "a file was changed");
}

/// Pseudorandom bytes, the same each time.
fn random_bytes(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let bytes = (0..count).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    });
    bytes.collect()
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("makes a directory")
}
