//! The events of AllData nodes that store them in LevelDB: dumped by `deploy/migrate/leveldb-dump.mjs`, and imported.
//!
//! The databases are laid out as `alldata-storage-leveldb` does it: one for each consolidation interval, with keys in
//! UTF-8 and events in JSON.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use crate::support::{DEADLINE, Lines, Output, finish, install_npm, run, run_with_input};

/// What is installed to dump: the files beside the script.
const FILES: [(&str, &str); 4] = [
    (
        "leveldb-dump.mjs",
        include_str!("../../deploy/migrate/leveldb-dump.mjs"),
    ),
    (
        "package.json",
        include_str!("../../deploy/migrate/package.json"),
    ),
    (
        "package-lock.json",
        include_str!("../../deploy/migrate/package-lock.json"),
    ),
    (".npmrc", include_str!("../../deploy/migrate/.npmrc")),
];

/// Puts key and event pairs, as JSON in the second argument, into the database of the first. With a third argument it
/// keeps the database open, as a running node does.
const WRITE: &str = "
import { ClassicLevel } from 'classic-level';
const [directory, events, stays] = process.argv.slice(1);
const database = new ClassicLevel(directory);
for (const [key, event] of JSON.parse(events)) await database.put(key, event, { sync: true });
if (stays) { setInterval(() => {}, 1000); console.error('open'); } else await database.close();
";

#[test]
fn events_of_all_intervals_are_imported_unchanged() {
    let node = Node::new();
    let events = [
        ("20131001T000000000000000000", r#"{"a": 1.50, "a":2}"#),
        ("20131002T000000000000000000", r#""é \u00e9""#),
        ("20131002T000000000000000001", "12345678901234567890.1e400"),
    ];
    node.put("20131001T000000", &events[..1]);
    node.put("20131002T000000", &events[1..]);
    let dump = dump(&[node.path()]);
    let store = Store::new();
    let imported = store.import(dump.assert_ok());
    assert_eq!(imported.assert_ok(), "3 events: 3 new, 0 present\n");
    for (key, event) in events {
        assert_eq!(store.get(key), event);
    }
}

#[test]
fn line_break_in_an_event_is_whitespace() {
    let node = Node::new();
    node.put("20131001T000000", &[("a", "[1,\r\n2]")]);
    let dump = dump(&[node.path()]);
    assert_eq!(dump.assert_ok(), "{\"key\":\"a\",\"event\":[1,  2]}\n");
}

#[test]
fn undamaged_replica_is_imported() {
    let (damaged, intact) = (Node::new(), Node::new());
    damaged.put(
        "20131001T000000",
        &[("a", "\"\u{fffd}\u{fffd}\""), ("b", "1")],
    );
    intact.put("20131001T000000", &[("a", "\"é\""), ("b", "1")]);
    let dump = dump(&[damaged.path(), intact.path()]);
    let store = Store::new();
    let imported = store.import(dump.assert_ok());
    assert_eq!(imported.code, Some(1), "{imported:?}");
    let summary = "3 events: 2 new, 1 present; 1 not imported: 1 conflicting, 0 bad, 0 failed\n";
    assert_eq!(imported.stdout, summary);
    assert!(imported.stderr.contains("line 4: "), "{imported:?}");
    assert_eq!(store.get("a"), "\"é\"");
}

#[test]
fn event_that_is_not_json_is_reported_and_the_others_are_dumped() {
    let node = Node::new();
    node.put("20131001T000000", &[("a", "1"), ("b", "{"), ("c", "3")]);
    let dump = dump(&[node.path()]);
    assert_eq!(dump.code, Some(1), "{dump:?}");
    let lines = "{\"key\":\"a\",\"event\":1}\n{\"key\":\"c\",\"event\":3}\n";
    assert_eq!(dump.stdout, lines);
    let error = "the event of key \"b\" is not JSON";
    assert_eq!(dump.stderr.matches(error).count(), 1, "{dump:?}");
}

#[test]
fn database_of_a_running_node_is_reported_and_the_others_are_dumped() {
    let node = Node::new();
    node.put("20131001T000000", &[("a", "1")]);
    let running = node.open("20131002T000000", &[("b", "2")]);
    let output = dump(&[node.path()]);
    drop(running);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert_eq!(output.stdout, "{\"key\":\"a\",\"event\":1}\n");
    let error = "stop the node that uses it";
    assert_eq!(output.stderr.matches(error).count(), 1, "{output:?}");
}

#[test]
fn directory_without_a_database_is_reported() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let output = dump(&[directory.path()]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("no LevelDB database"), "{output:?}");
    assert_eq!(dump(&[]).code, Some(2));
}

/// The storage of a node.
struct Node {
    location: TempDir,
}

/// A process that has a database open. It is killed when this is dropped.
struct Running(Child);

impl Node {
    fn new() -> Self {
        let location = tempfile::tempdir().expect("makes a directory");
        Self { location }
    }

    fn path(&self) -> &Path {
        self.location.path()
    }

    /// Puts events into the database of an interval.
    fn put(&self, interval: &str, events: &[(&str, &str)]) {
        let output = finish(&mut self.writer(interval, events), "", DEADLINE);
        assert_eq!(output.code, Some(0), "{output:?}");
    }

    /// The same, and keeps the database open.
    fn open(&self, interval: &str, events: &[(&str, &str)]) -> Running {
        let mut writer = self.writer(interval, events);
        let writer = writer.arg("stays").stdin(Stdio::null());
        let mut child = writer.stderr(Stdio::piped()).spawn().expect("starts");
        let stderr = child.stderr.take().expect("is piped");
        let running = Running(child);
        Lines::of(stderr).with("open");
        running
    }

    fn writer(&self, interval: &str, events: &[(&str, &str)]) -> Command {
        let mut node = Command::new("node");
        node.args(["--input-type=module", "--eval", WRITE]);
        node.arg(self.path().join(interval));
        node.arg(json!(events).to_string());
        node.current_dir(installed());
        node
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn dump(nodes: &[&Path]) -> Output {
    let mut dump = Command::new("node");
    dump.arg("leveldb-dump.mjs").args(nodes);
    finish(dump.current_dir(installed()), "", DEADLINE)
}

fn installed() -> PathBuf {
    install_npm("migrate", &FILES)
}

/// The store that is imported into.
struct Store {
    url: String,
    _directory: TempDir,
}

impl Store {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("makes a directory");
        let url = format!("sqlite:{}", directory.path().join("a.db").display());
        Self {
            url,
            _directory: directory,
        }
    }

    fn import(&self, lines: &str) -> Output {
        run_with_input(&["import", "-", "--store", &self.url], lines)
    }

    fn get(&self, key: &str) -> String {
        let output = run(&["get", key, "--store", &self.url]);
        output.assert_ok().trim_end().to_owned()
    }
}
