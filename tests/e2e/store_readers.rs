//! Readers of a store leave no files behind, whoever they are and wherever the store is.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use alldata_peer_server_http::sinks::SqliteSink;
use alldata_peer_server_http::store::StoreReader;
use alldata_peer_server_http::{Error, PutSink as _};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{
    Peer, PeerBuilder, can_make, files_beside, no_own_disk, run, run_by, run_on_read_only_disk,
    run_with_input,
};

/// The owner of the store, who runs the service; a user who only reads; and the group of both.
const OWNER: u32 = 61_001;
const READER: u32 = 61_002;
const GROUP: u32 = 61_003;

#[test]
fn closed_store_is_read_without_a_trace() {
    let (path, _next) = closed_store(Signal::TERM);
    let before = files_beside(&path);
    assert_read(&path);
    assert!(files_beside(&path) == before, "a file was changed or made");
}

/// The rows are read ahead by another thread, which ends too.
#[test]
fn visit_ends_at_an_error_and_visits_each_event_in_order() {
    const EVENTS: usize = 3000;
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = directory.path().join("alldata.db");
    let lines: String = (0..EVENTS)
        .map(|number| format!("{{\"key\":\"key{number:04}\",\"event\":{number}}}\n"))
        .collect();
    let store = format!("sqlite:{}", path.display());
    run_with_input(&["import", "-", "--store", &store], &lines).assert_ok();
    let reader = StoreReader::open(&path).expect("opens");
    for end in [1, EVENTS / 2, EVENTS + 1] {
        let mut visited = Vec::new();
        let result = reader.visit(None, None, |event| {
            visited.push(event.event);
            match visited.len() == end {
                true => Err(Error::DamagedEvent {
                    path: path.clone(),
                    key: event.key,
                }),
                false => Ok(()),
            }
        });
        assert_eq!(result.is_err(), end <= EVENTS);
        let expected: Vec<String> = (0..end.min(EVENTS)).map(|it| it.to_string()).collect();
        assert!(visited == expected, "{} events", visited.len());
    }
}

#[test]
fn path_with_any_characters_is_read() {
    let directory = tempfile::tempdir().expect("makes a directory");
    for name in [
        "a b", "a%20b", "a#b", "ä&=;", "file:x", "%00", ":memory:", "a\\b",
    ] {
        let path = directory.path().join(name);
        let store = format!("sqlite:{}", path.display());
        run_with_input(
            &["import", "-", "--store", &store],
            "{\"key\":\"a\",\"event\":1}\n",
        )
        .assert_ok();
        let get = run(&["get", "a", "--store", &store]);
        assert_eq!(get.assert_ok(), "1\n", "{name}");
        run(&["verify", "--store", &store]).assert_ok();
        fs::remove_file(&path).expect("is there");
    }
    let left = fs::read_dir(directory.path()).expect("lists").count();
    assert_eq!(left, 0, "files are left");
}

#[test]
fn read_only_disk_is_read() {
    if !can_make("read_only_disk", no_own_disk()) {
        return;
    }
    let (path, _next) = closed_store(Signal::TERM);
    let directory = path.parent().expect("is in a directory");
    for arguments in [&["get", "key1"][..], &["export"], &["verify"]] {
        run_on_read_only_disk(directory, arguments).assert_ok();
    }
    // A store that still has to be recovered can't be read.
    let (path, _next) = closed_store(Signal::KILL);
    let directory = path.parent().expect("is in a directory");
    fs::remove_file(path.with_file_name("alldata.db-shm")).expect("is there");
    let output = run_on_read_only_disk(directory, &["get", "key1"]);
    let sentence = output.assert_failed(1);
    assert!(sentence.contains("alldata.db-wal"), "{sentence}");
}

#[test]
fn reader_of_the_group_does_not_keep_the_service_out() {
    let Some(shared) = Shared::with_a_store(Signal::TERM) else {
        return;
    };
    let path = shared.path();
    let before = names(&path);
    for arguments in [&["get", "key1"][..], &["export"], &["verify"]] {
        shared.run(READER, arguments).assert_ok();
    }
    assert_eq!(names(&path), before, "files are left");
    let peer = shared.serve();
    peer.put("key2", "2").assert_created();
    // Also beside a running service.
    assert_eq!(shared.run(READER, &["get", "key2"]).assert_ok(), "2\n");
    let (status, _next) = peer.end(Signal::TERM);
    assert_eq!(status.code(), Some(0));
    shared.serve().put("key2", "3").assert_problem(409);
}

#[test]
fn reader_of_the_group_leaves_recovery_to_the_owner() {
    let Some(shared) = Shared::with_a_store(Signal::KILL) else {
        return;
    };
    let path = shared.path();
    fs::remove_file(path.with_file_name("alldata.db-shm")).expect("is there");
    let before = files_beside(&path);
    for arguments in [&["get", "key1"][..], &["export"], &["verify"]] {
        let output = shared.run(READER, arguments);
        let sentence = output.assert_failed(1);
        assert!(sentence.contains("owner"), "{sentence}");
    }
    assert!(files_beside(&path) == before, "a file was changed or made");
    assert_eq!(shared.run(OWNER, &["get", "key1"]).assert_ok(), "1\n");
    shared.serve().put("key1", "2").assert_problem(409);
}

/// A reader that began before the first put sees later events.
#[test]
fn reader_sees_later_events() {
    let (path, _next) = closed_store(Signal::TERM);
    let runtime = tokio::runtime::Runtime::new().expect("starts a runtime");
    let put = |sink: &SqliteSink, key: &str| {
        let put = sink.put(key.to_owned(), "1".to_owned());
        runtime.block_on(put).expect("puts");
    };
    let reader = StoreReader::open(&path).expect("opens");
    assert_eq!(reader.count().expect("counts"), 1);
    let sink = SqliteSink::open(&path).expect("opens");
    put(&sink, "key2");
    assert_eq!(reader.get("key2").expect("reads").as_deref(), Some("1"));
    put(&sink, "key3");
    assert_eq!(reader.count().expect("counts"), 3);
    drop(sink);
    let mut keys = Vec::new();
    let visited = reader.visit(None, None, |event| {
        keys.push(event.key);
        Ok::<_, Error>(())
    });
    visited.expect("reads");
    assert_eq!(keys, ["key1", "key2", "key3"]);
    assert!(reader.verify(|_| {}).expect("verifies").is_clean());
}

/// A closed store that is written to, closed and written to again between the steps of one read.
#[test]
fn read_spans_changes_of_a_closed_store() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = directory.path().join("a.db");
    let runtime = tokio::runtime::Runtime::new().expect("starts a runtime");
    let put_all = |keys: std::ops::Range<u32>| {
        let sink = SqliteSink::open(&path).expect("opens");
        for number in keys {
            let put = sink.put(format!("{number:05}"), "1".to_owned());
            runtime.block_on(put).expect("puts");
        }
    };
    put_all(0..600);
    let reader = StoreReader::open(&path).expect("opens");
    let mut seen = 0;
    let visited = reader.visit(None, None, |_| {
        seen += 1;
        if seen % 200 == 0 && seen <= 600 {
            put_all(600 + seen..800 + seen);
        }
        Ok::<_, Error>(())
    });
    visited.expect("reads");
    assert_eq!(seen, 1200);
    assert!(reader.verify(|_| {}).expect("verifies").is_clean());
}

/// A store in a directory that its owner and another user of the group may write to.
struct Shared(TempDir);

impl Shared {
    /// `None` if the tests may not become other users.
    fn with_a_store(signal: Signal) -> Option<Self> {
        let reason = (!rustix::process::geteuid().is_root()).then_some("only root becomes others");
        if !can_make("other_users", reason) {
            return None;
        }
        let directory = tempfile::tempdir().expect("makes a directory");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o775)).expect("sets");
        chown(directory.path(), Some(OWNER), Some(GROUP)).expect("is root");
        let shared = Self(directory);
        let peer = shared.serve();
        peer.put("key1", "1").assert_created();
        let _ = peer.end(signal);
        Some(shared)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("alldata.db")
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.path().display())
    }

    /// The service, which its owner runs.
    fn serve(&self) -> Peer {
        let launcher = become_user(OWNER);
        let launcher: Vec<&str> = launcher.iter().map(String::as_str).collect();
        let builder: PeerBuilder = Peer::builder().sink(&self.url()).launched_by(&launcher);
        builder.own_env("ALLDATA_PEER_COMPILE_CACHE", "").start()
    }

    fn run(&self, user: u32, arguments: &[&str]) -> crate::support::Output {
        let launcher = become_user(user);
        let launcher: Vec<&str> = launcher.iter().map(String::as_str).collect();
        let url = self.url();
        run_by(&launcher, &[arguments, &["--store", &url]].concat())
    }
}

/// Becomes another user, whose files the group may write to.
fn become_user(user: u32) -> Vec<String> {
    let script = format!(
        "umask 002; cd /; exec setpriv --reuid={user} --regid={GROUP} --clear-groups \"$0\" \"$@\""
    );
    vec!["sh".to_owned(), "-c".to_owned(), script]
}

fn names(path: &Path) -> Vec<String> {
    files_beside(path).into_keys().collect()
}

/// A store with one event, and its directory.
fn closed_store(signal: Signal) -> (PathBuf, PeerBuilder) {
    let peer = Peer::start();
    peer.put("key1", "1").assert_created();
    let path = peer.file("alldata.db");
    let (_, next) = peer.end(signal);
    (path, next)
}

#[track_caller]
fn assert_read(path: &Path) {
    let store = format!("sqlite:{}", path.display());
    assert_eq!(run(&["get", "key1", "--store", &store]).assert_ok(), "1\n");
    run(&["export", "--store", &store]).assert_ok();
    run(&["verify", "--store", &store]).assert_ok();
}
