//! `get`, `export`, `import`, `verify` and `put` on a store.
//!
//! The flags of a server are in `command_line`.

use std::fs;
use std::process::Command;
use std::thread;

use rusqlite::Connection as Database;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Output, Peer, run, run_with_input};

/// Sorted by the bytes of the keys.
const LINES: &str = "{\"key\":\"\\u0001\",\"event\":null}
{\"key\":\"20130927T005240652508858176\",\"event\":{\"customer\": 1,  \"n\":12345678901234567890}}
{\"key\":\"B\",\"event\":1e400}
{\"key\":\"a\",\"event\":[1,2,{\"é\":\"\\ud83d\\ude00 \u{1f600}\"}]}
{\"key\":\"a b\",\"event\":\"x\"}
{\"key\":\"b\",\"event\":\"\\u0000\\\\ \\\"\"}
{\"key\":\"é\",\"event\":-0.0}
{\"key\":\"\u{1f600}\",\"event\":true}
";

#[test]
fn get_prints_an_event_as_it_was_put() {
    let peer = Peer::start();
    let events = [
        "{ \"a\" :\n\t1.0e0 }",
        "12345678901234567890",
        "\"é\\u00e9\"",
        "null",
    ];
    for (number, event) in events.iter().enumerate() {
        let key = format!("key {number}");
        peer.put(&key, event).assert_created();
        let got = run(&["get", &key, "--store", &peer.store()]);
        assert_eq!(got.assert_ok(), format!("{event}\n"));
    }
}

#[test]
fn get_of_missing_key_says_so() {
    let peer = Peer::start();
    peer.put("key1", "1").assert_created();
    let got = run(&["get", "key2", "--store", &peer.store()]);
    assert!(got.assert_failed(1).contains("key2"), "{got:?}");
}

#[test]
fn reading_creates_no_store() {
    let directory = directory();
    let store = store_in(&directory, "none.db");
    let commands = [&["get", "key1"][..], &["export"], &["verify"]];
    for command in commands {
        let output = run(&[command, &["--store", &store]].concat());
        assert!(output.assert_failed(1).contains("none.db"), "{output:?}");
    }
    let left = fs::read_dir(directory.path()).expect("is read").count();
    assert_eq!(left, 0);
}

#[test]
fn export_is_ordered_by_key() {
    let directory = directory();
    let store = store_in(&directory, "a.db");
    let backwards: Vec<&str> = LINES.lines().rev().collect();
    let imported = run_with_input(&["import", "-", "--store", &store], &backwards.join("\n"));
    assert_eq!(imported.code, Some(0), "{imported:?}");
    assert_eq!(run(&["export", "--store", &store]).assert_ok(), LINES);
}

#[test]
fn export_imports_into_equal_store() {
    let directory = directory();
    let file = directory.path().join("events.ndjson");
    let file = file.to_str().expect("is text");
    let (first, second) = (store_in(&directory, "1.db"), store_in(&directory, "2.db"));
    assert_eq!(import(LINES, &first).code, Some(0));
    let exported = run(&["export", "-o", file, "--store", &first]);
    assert_eq!(exported.assert_ok(), "");
    assert_eq!(fs::read_to_string(file).expect("is written"), LINES);
    // The second time, all events are present already.
    for _ in 0..2 {
        let imported = run(&["import", file, "--store", &second]);
        assert_eq!(imported.code, Some(0), "{imported:?}");
        assert_eq!(run(&["export", "--store", &second]).assert_ok(), LINES);
    }
    run(&["verify", "--store", &second]).assert_ok();
}

#[test]
fn export_replaces_a_file_and_leaves_nothing_beside_it() {
    let directory = directory();
    let store = store_in(&directory, "a.db");
    assert_eq!(import(LINES, &store).code, Some(0));
    let out = directory.path().join("out");
    fs::create_dir(&out).expect("is made");
    let file = out.join("events.ndjson");
    fs::write(&file, LINES.repeat(2)).expect("is written");
    let path = file.to_str().expect("is text");
    run(&["export", "--output", path, "--store", &store]).assert_ok();
    assert_eq!(fs::read_to_string(&file).expect("is there"), LINES);
    assert_eq!(fs::read_dir(&out).expect("is read").count(), 1);
}

#[test]
fn export_is_bounded_by_keys_which_it_includes() {
    let directory = directory();
    let store = store_in(&directory, "a.db");
    let lines: String = ["a", "b", "c", "d"].map(line).concat();
    assert_eq!(import(&lines, &store).code, Some(0));
    let cases: [(&[&str], &[&str]); 7] = [
        (&["--from", "b"], &["b", "c", "d"]),
        (&["--to", "c"], &["a", "b", "c"]),
        (&["--from", "b", "--to", "c"], &["b", "c"]),
        (&["--from", "b", "--to", "b"], &["b"]),
        (&["--from", "aa", "--to", "cc"], &["b", "c"]),
        (&["--from", "c", "--to", "b"], &[]),
        (&["--from", "e"], &[]),
    ];
    for (bounds, keys) in cases {
        let exported = run(&[&["export", "--store", &store], bounds].concat());
        let expected: String = keys.iter().map(|key| line(key)).collect();
        assert_eq!(exported.assert_ok(), expected, "{bounds:?}");
    }
}

#[test]
fn multiline_event_is_exported_as_one_line() {
    let peer = Peer::start();
    let event = "{\r\n  \"a\": [\n    1.50,\r    \"\\n\"\n  ]\n}";
    peer.put("key1", event).assert_created();
    let exported = run(&["export", "--store", &peer.store()]);
    let line = exported.assert_ok();
    assert_eq!(line.lines().count(), 1, "{line:?}");
    assert!(!line.contains('\r') && line.contains("1.50"), "{line:?}");
    let line: Value = serde_json::from_str(line).expect("is JSON");
    assert_eq!(line, json!({"key": "key1", "event": {"a": [1.5, "\n"]}}));
    // The stored text is unchanged, and the event of the line is the same.
    let got = run(&["get", "key1", "--store", &peer.store()]);
    assert_eq!(got.assert_ok(), format!("{event}\n"));
    assert_eq!(import(&exported.stdout, &peer.store()).code, Some(0));
}

#[test]
fn import_names_failed_lines_and_continues() {
    let directory = directory();
    let store = store_in(&directory, "a.db");
    let lines = "{\"key\":\"a\",\"event\":1}\nnonsense\n\n{\"key\":\"a\",\"event\":2}\n\
        {\"key\":\"\",\"event\":1}\r\n{\"key\":\"b\",\"event\":1}\r\n{\"key\":\"c\"}\n\
        {\"key\":\"c\",\"event\":1} {}\n{\"key\":\"d\",\"event\":1}";
    let imported = import(lines, &store);
    assert_eq!(imported.code, Some(1), "{imported:?}");
    let named = |number: &u32| imported.stderr.contains(&format!("line {number}:"));
    let bad: Vec<u32> = (1..=9).filter(named).collect();
    assert_eq!(bad, [2, 4, 5, 7, 8], "{imported:?}");
    assert!(!imported.stderr.contains("panicked"), "{imported:?}");
    let stored: String = ["a", "b", "d"].map(line).concat();
    assert_eq!(run(&["export", "--store", &store]).assert_ok(), stored);
}

/// Lines are put in batches, the next one while the last one is written.
#[test]
fn first_of_many_lines_with_a_key_is_imported() {
    const LINES: usize = 1000;
    let directory = directory();
    let store = store_in(&directory, "a.db");
    let block = |from: usize, lines: usize, event: u32| -> String {
        let numbers = from..from + lines;
        let line = |number| format!("{{\"key\":\"{number:05}\",\"event\":{event}}}\n");
        numbers.map(line).collect()
    };
    let froms = (0..6).map(|block| block * LINES);
    // Each event twice, and another one for some of the keys.
    let lines: String = froms
        .clone()
        .flat_map(|from| {
            [(LINES, 1), (20, 2), (LINES, 1)].map(|(lines, event)| block(from, lines, event))
        })
        .collect();
    let imported = import(&lines, &store);
    assert_eq!(
        imported.stdout,
        "12000 events: 6000 new, 6000 present; 120 not imported: 120 conflicting, 0 bad, 0 failed\n"
    );
    let first: String = froms.map(|from| block(from, LINES, 1)).collect();
    assert_eq!(run(&["export", "--store", &store]).assert_ok(), first);
}

/// A store compares the values of few large events at a time, and refuses further puts meanwhile.
#[test]
fn large_events_in_another_spelling_are_imported_as_present() {
    const LINES: usize = 200;
    let directory = directory();
    let store = store_in(&directory, "a.db");
    let lines = |space: &str| -> String {
        let elements = format!("{space}1,").repeat(4096);
        let line = |number| format!("{{\"key\":\"{number}\",\"event\":[{elements}1]}}\n");
        (0..LINES).map(line).collect()
    };
    for (space, told) in [
        ("", "200 events: 200 new, 0 present\n"),
        (" ", "200 events: 0 new, 200 present\n"),
    ] {
        let imported = import(&lines(space), &store);
        assert_eq!(imported.assert_ok(), told);
    }
}

#[test]
fn verify_names_the_key_of_a_changed_row() {
    let changes = [
        "UPDATE events SET event = '3' WHERE key = 'key2'",
        "UPDATE events SET digest = zeroblob(32) WHERE key = 'key2'",
        "UPDATE events SET digest = x'' WHERE key = 'key2'",
        "UPDATE events SET key = 'key2b' WHERE key = 'key2'",
    ];
    for change in changes {
        let peer = Peer::start();
        for key in ["key1", "key2", "key3"] {
            peer.put(key, "1").assert_created();
        }
        run(&["verify", "--store", &peer.store()]).assert_ok();
        let database = Database::open(peer.file("alldata.db")).expect("opens");
        assert_eq!(database.execute(change, ()), Ok(1));
        let found = run(&["verify", "--store", &peer.store()]);
        assert_eq!(found.code, Some(1), "{change}: {found:?}");
        assert!(found.stderr.contains("key2"), "{change}: {found:?}");
        assert!(!found.stderr.contains("key1"), "{change}: {found:?}");
        assert!(!found.stderr.contains("panicked"), "{change}: {found:?}");
    }
}

#[test]
fn commands_and_a_running_server_share_a_store() {
    let peer = Peer::start();
    peer.put("a", "1").assert_created();
    let lines: String = ["b", "c"].map(line).concat();
    assert_eq!(import(&lines, &peer.store()).code, Some(0));
    // The server has the imported events, and vice versa.
    peer.put("b", "1").assert_created();
    peer.put("b", "2").assert_problem(409);
    let conflict = import("{\"key\":\"a\",\"event\":2}\n", &peer.store());
    assert_eq!(conflict.code, Some(1), "{conflict:?}");
    let all: String = ["a", "b", "c"].map(line).concat();
    assert_eq!(run(&["export", "--store", &peer.store()]).assert_ok(), all);
    run(&["verify", "--store", &peer.store()]).assert_ok();
}

#[test]
fn store_is_read_from_environment() {
    let directory = directory();
    let store = store_in(&directory, "a.db");
    assert_eq!(import(&line("a"), &store).code, Some(0));
    let variables = [("ALLDATA_PEER_STORE", store.as_str())];
    let with = |arguments| Output::with_environment(arguments, &variables);
    assert_eq!(with(&["get", "a"]).assert_ok(), "1\n");
    assert_eq!(with(&["export"]).assert_ok(), line("a"));
    with(&["verify"]).assert_ok();
}

#[test]
fn put_puts_one_event() {
    let peer = Peer::start();
    let url = peer.url();
    let put = run(&["put", "a \"key\"", "{ \"a\": 1.0 }", "--to", &url]);
    assert_eq!(put.assert_ok(), "");
    let got = run(&["get", "a \"key\"", "--store", &peer.store()]);
    assert_eq!(got.assert_ok(), "{ \"a\": 1.0 }\n");
    run_with_input(&["put", "key2", "-", "--to", &url], " [1,\n2]\n").assert_ok();
    let got = run(&["get", "key2", "--store", &peer.store()]);
    assert_eq!(got.assert_ok(), "[1,\n2]\n");
    let variables = [("ALLDATA_PEER_TO", url.as_str())];
    Output::with_environment(&["put", "key3", "3"], &variables).assert_ok();
    let got = run(&["get", "key3", "--store", &peer.store()]);
    assert_eq!(got.assert_ok(), "3\n");
}

#[test]
fn put_refuses_invalid_json() {
    let peer = Peer::start();
    for event in ["hello world", "", "{", "1 2", "'a'", "NaN"] {
        let put = run(&["put", "key1", event, "--to", &peer.url()]);
        put.assert_failed(2);
        let put = run_with_input(&["put", "key1", "-", "--to", &peer.url()], event);
        put.assert_failed(2);
    }
    assert_eq!(run(&["export", "--store", &peer.store()]).assert_ok(), "");
}

#[test]
fn put_says_why_it_was_refused() {
    let peer = Peer::start();
    run(&["put", "key1", "1", "--to", &peer.url()]).assert_ok();
    run(&["put", "key1", "1", "--to", &peer.url()]).assert_ok();
    let conflict = run(&["put", "key1", "2", "--to", &peer.url()]);
    let sentence = conflict.assert_failed(1);
    assert!(sentence.contains("different event"), "{sentence}");
    run(&["put", "", "1", "--to", &peer.url()]).assert_failed(1);
    let got = run(&["get", "key1", "--store", &peer.store()]);
    assert_eq!(got.assert_ok(), "1\n");
}

#[test]
fn refused_connection_names_the_address() {
    let nobody = Peer::nobody();
    let put = run(&["put", "key1", "1", "--to", &nobody.url()]);
    assert!(put.assert_failed(1).contains(&nobody.url()), "{put:?}");
}

#[test]
fn put_to_invalid_url_is_wrong_usage() {
    for url in ["", "localhost", "ftp://localhost/", "http://"] {
        run(&["put", "key1", "1", "--to", url]).assert_failed(2);
    }
}

#[test]
fn closed_store_is_readable() {
    for signal in [Signal::KILL, Signal::TERM] {
        let peer = Peer::start();
        peer.put("a", "1").assert_created();
        let store = peer.store();
        let (_, ended) = peer.end(signal);
        assert_eq!(run(&["get", "a", "--store", &store]).assert_ok(), "1\n");
        drop(ended);
    }
}

/// A line of an export whose event is 1.
fn line(key: &str) -> String {
    format!("{{\"key\":\"{key}\",\"event\":1}}\n")
}

fn import(lines: &str, store: &str) -> Output {
    run_with_input(&["import", "-", "--store", store], lines)
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("makes a directory")
}

fn store_in(directory: &TempDir, name: &str) -> String {
    format!("sqlite:{}", directory.path().join(name).display())
}

#[cfg(unix)]
#[test]
fn export_writes_through_a_link_and_keeps_it() {
    let peer = Peer::start();
    peer.put("key1", "1").assert_created();
    let (link, target) = (peer.file("link"), peer.file("target"));
    fs::write(&target, "old").expect("is written");
    std::os::unix::fs::symlink(&target, &link).expect("is linked");
    let link_name = link.display().to_string();
    run(&["export", "-o", &link_name, "--store", &peer.store()]).assert_ok();
    assert!(link.is_symlink());
    let text = fs::read_to_string(&target).expect("reads");
    assert_eq!(text, "{\"key\":\"key1\",\"event\":1}\n");
}

#[cfg(unix)]
#[test]
fn export_writes_to_a_pipe_and_does_not_replace_it() {
    let peer = Peer::start();
    peer.put("key1", "1").assert_created();
    let pipe = peer.file("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("runs");
    assert!(made.success());
    let reader = thread::spawn({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).expect("reads")
    });
    let name = pipe.display().to_string();
    run(&["export", "-o", &name, "--store", &peer.store()]).assert_ok();
    assert!(!fs::metadata(&pipe).expect("is there").is_file());
    let text = reader.join().expect("reads");
    assert_eq!(text, "{\"key\":\"key1\",\"event\":1}\n");
}
