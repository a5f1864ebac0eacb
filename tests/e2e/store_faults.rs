//! What a store makes of trouble: a full disk, damaged files, files of others, locks of others.
//!
//! Never kills a server in good health: that is in `durability`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rusqlite::Connection as Database;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Peer, Post, files_beside, run, run_with_input, serve, wait_until};

/// Events by their keys.
type Events = BTreeMap<String, String>;

/// More than there is room for in any test of a full disk.
const MANY: usize = 2000;

#[test]
fn full_disk_fails_puts_until_there_is_room() {
    let mut peer = Peer::start();
    peer.limit_file_size(Some(256 << 10));
    let Filled {
        acknowledged,
        failed,
    } = fill(&peer, 1 << 10);
    assert_same(&exported(&peer.store()), &acknowledged);
    peer.limit_file_size(None);
    for (key, event) in &failed {
        peer.put(key, event).assert_created();
    }
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    let mut all = acknowledged;
    all.extend(failed);
    assert_same(&exported(&peer.store()), &all);
    run(&["verify", "--store", &peer.store()]).assert_ok();
}

#[test]
fn unwritable_log_costs_no_response() {
    let mut peer = Peer::builder()
        .sink(&Peer::nobody().url())
        .log_to("/dev/full")
        .start();
    for _ in 0..3 {
        peer.put("key1", "1").assert_problem(503);
    }
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
}

#[test]
fn missing_store_is_not_created_again() {
    let peer = Peer::start();
    peer.put("key1", "1").assert_created();
    // An error of the disk, after which the store is opened again.
    peer.limit_file_size(Some(1));
    peer.put("key2", "1").assert_problem(500);
    let (here, away) = (peer.file("alldata.db"), peer.file("away"));
    fs::rename(&here, &away).expect("moves");
    peer.limit_file_size(None);
    peer.put("key1", "2").assert_problem(500);
    assert!(!here.exists());
    fs::rename(&away, &here).expect("moves");
    peer.put("key1", "2").assert_problem(409);
    peer.put("key1", "1").assert_created();
}

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

/// Keys are read in steps, each from the last key of the one before: here a damaged one.
#[test]
fn damaged_key_ends_the_export() {
    let lines: String = (0..600)
        .map(|number| format!("{{\"key\":\"key{number:04}\",\"event\":1}}\n"))
        .collect();
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = directory.path().join("a.db");
    let store = format!("sqlite:{}", path.display());
    run_with_input(&["import", "-", "--store", &store], &lines).assert_ok();
    // The last key of the first step, which now belongs before all others, or behind them.
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
fn large_event_is_compared_with_stored_one() {
    let peer = Peer::start();
    let large = format!("[\"{}\"]", "x".repeat(1 << 20));
    peer.put("large", &large).assert_created();
    peer.put("large", &large).assert_created();
    peer.put("large", &format!("[ {}", &large[1..]))
        .assert_created();
    peer.put("large", "1").assert_problem(409);
    assert_eq!(peer.get("large"), format!("{large}\n"));
}

#[test]
fn special_names_of_sqlite_are_plain_files() {
    let peer = Peer::builder().sink("sqlite::memory:").start();
    peer.put("key1", "1").assert_created();
    assert!(peer.file(":memory:").exists());
}

#[test]
fn full_disk_at_a_checkpoint_loses_nothing() {
    // Beyond what SQLite has in its log before it moves it to the database.
    let mut peer = Peer::start();
    peer.limit_file_size(Some(6 << 20));
    let Filled {
        acknowledged,
        failed,
    } = fill(&peer, 64 << 10);
    assert_same(&exported(&peer.store()), &acknowledged);
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    assert_same(&exported(&peer.store()), &acknowledged);
    run(&["verify", "--store", &peer.store()]).assert_ok();
    assert!(!failed.is_empty());
}

/// The file system has room, and only the write finds out.
#[test]
fn file_size_limit_within_a_checkpoint_loses_nothing_and_heals() {
    for signal in [Signal::TERM, Signal::KILL] {
        let peer = Peer::start();
        // The database comes to the limit before the WAL, which is begun anew.
        peer.limit_file_size(Some(12 << 20));
        let Filled {
            mut acknowledged,
            failed,
        } = fill(&peer, 64 << 10);
        assert!(!failed.is_empty());
        peer.log_line("cannot checkpoint the WAL");
        assert_same(&exported(&peer.store()), &acknowledged);
        let next = match signal {
            Signal::KILL => peer.end(Signal::KILL).1,
            _ => {
                peer.limit_file_size(None);
                let put = || peer.put("healed", "1").status == 201;
                wait_until("puts are taken", put);
                acknowledged.insert("healed".to_owned(), "1".to_owned());
                peer.end(signal).1
            }
        };
        let peer = next.start();
        assert_same(&exported(&peer.store()), &acknowledged);
        for (key, event) in &failed {
            peer.put(key, event).assert_created();
        }
        run(&["verify", "--store", &peer.store()]).assert_ok();
    }
}

#[test]
fn kill_on_a_full_disk_loses_nothing() {
    let peer = Peer::start();
    peer.limit_file_size(Some(256 << 10));
    let Filled {
        acknowledged,
        failed,
    } = fill(&peer, 1 << 10);
    let (_, next) = peer.end(Signal::KILL);
    let peer = next.start();
    assert_same(&exported(&peer.store()), &acknowledged);
    for (key, event) in &failed {
        peer.put(key, event).assert_created();
    }
    run(&["verify", "--store", &peer.store()]).assert_ok();
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

/// Damage that SQLite sees when it opens a file, behind the mark of a store.
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

/// Also where the damage keeps the store from being counted.
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
    // Every fourth page, so that of the table and of its index some are hit.
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

#[test]
fn locked_store_is_unavailable_until_unlocked() {
    let peer = Peer::start();
    let lock = Database::open(peer.file("alldata.db")).expect("opens");
    lock.execute_batch("BEGIN IMMEDIATE").expect("locks");
    let locked = peer.put("key1", "1");
    let problem = locked.assert_problem(503);
    assert_eq!(problem["stored"], "no");
    assert_eq!(problem["retry"], true);
    let seconds: Option<u64> = locked
        .header("retry-after")
        .and_then(|value| value.parse().ok());
    assert!(seconds.is_some_and(|seconds| seconds > 0), "{locked:?}");
    lock.execute_batch("ROLLBACK").expect("unlocks");
    peer.put("key1", "1").assert_created();
}

#[test]
fn put_waits_for_lock() {
    let peer = Peer::start();
    let lock = Database::open(peer.file("alldata.db")).expect("opens");
    lock.execute_batch("BEGIN IMMEDIATE").expect("locks");
    let mut waiting = peer.connect();
    waiting.send(Post::put("key1", "1").bytes());
    // Whoever waits holds up nobody else.
    peer.send(&Post::new("nonsense")).assert_problem(400);
    lock.execute_batch("ROLLBACK").expect("unlocks");
    waiting.answer().assert_created();
}

#[test]
fn reader_does_not_block_puts() {
    let peer = Peer::start();
    peer.put("key1", "1").assert_created();
    let reader = Database::open(peer.file("alldata.db")).expect("opens");
    reader.execute_batch("BEGIN").expect("begins");
    let count = || -> i64 {
        let count = reader.query_row("SELECT count(*) FROM events", (), |row| row.get(0));
        count.expect("counts")
    };
    assert_eq!(count(), 1);
    peer.put("key2", "2").assert_created();
    assert_eq!(count(), 1);
    reader.execute_batch("COMMIT").expect("ends");
    assert_eq!(count(), 2);
}

/// What became of puts to a server that has less room than they take.
struct Filled {
    acknowledged: Events,
    failed: Events,
}

/// Puts events of so many bytes until some fail, and holds that those are not stored.
fn fill(peer: &Peer, bytes: usize) -> Filled {
    let (mut acknowledged, mut failed) = (Events::new(), Events::new());
    let mut connection = peer.connect();
    for number in 0..MANY {
        let (key, event) = (
            format!("key{number:05}"),
            format!("\"{}\"", "x".repeat(bytes)),
        );
        let answer = connection.send(Post::put(&key, &event).bytes()).answer();
        if answer.status == 201 {
            acknowledged.insert(key, event);
            continue;
        }
        let detail = answer.detail(500).to_lowercase();
        for internal in ["sql", "i/o", "disk", "alldata.db", "os error"] {
            assert!(!detail.contains(internal), "{detail}");
        }
        failed.insert(key, event);
        if failed.len() == 5 {
            break;
        }
    }
    assert_eq!(failed.len(), 5, "there was room for all");
    assert!(!acknowledged.is_empty());
    Filled {
        acknowledged,
        failed,
    }
}

fn exported(store: &str) -> Events {
    run(&["export", "--store", store]).events()
}

/// Holds that `events` are stored as they were put, and nothing else.
#[track_caller]
fn assert_same(stored: &Events, events: &Events) {
    for (key, event) in events {
        assert!(stored.get(key) == Some(event), "{key} is not stored");
    }
    let other = stored.keys().find(|key| !events.contains_key(*key));
    assert_eq!(other, None, "it was not acknowledged");
}

/// Holds that nothing opens the file or changes anything around it, and says why.
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

/// Bytes without any order, the same each time.
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
