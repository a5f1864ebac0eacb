//! The access log: a line for each request, whatever becomes of it.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use alldata_peer_server_http::{AccessLog, Limits, PeerServer};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::admin::scrape;
use crate::support::{
    DEADLINE, Embedded, Output, Peer, PeerBuilder, Post, handler_only_file, run, serve, wait_until,
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The members of a line, in their order.
const MEMBERS: [&str; 9] = [
    "time",
    "request_id",
    "address",
    "client",
    "method",
    "path",
    "status",
    "body_bytes",
    "duration_seconds",
];

fn directory() -> TempDir {
    tempfile::tempdir().expect("makes a directory")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("is text")
}

/// A server that writes its access log to this file.
fn peer(log: &Path) -> PeerBuilder {
    Peer::builder().arguments(&["--access-log", text(log)])
}

fn lines(log: &Path) -> Vec<Value> {
    let written = fs::read_to_string(log).expect("reads");
    assert!(written.is_empty() || written.ends_with('\n'), "{written}");
    let lines = written.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("is JSON")
}

/// The lines of a server, after its end.
fn end(mut peer: Peer, log: &Path) -> Vec<Value> {
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    lines(log)
}

#[test]
fn each_request_has_a_line() {
    let directory = directory();
    let tokens = directory.path().join("tokens");
    fs::write(&tokens, format!("alice:{TOKEN}\n")).expect("writes");
    fs::set_permissions(&tokens, Permissions::from_mode(0o600)).expect("is set");
    let component = ["--component", text(handler_only_file())];
    for (number, component) in [&[][..], &component].into_iter().enumerate() {
        let log = directory.path().join(format!("access-{number}.log"));
        let peer = peer(&log).arguments(&["--token-file", text(&tokens)]);
        let peer = peer.arguments(component).start();
        let put = Post::put("secret-key", "\"secret-event\"").target("/_put?secret-query");
        let authorized = put
            .clone()
            .header(&format!("Authorization: Bearer {TOKEN}"));
        let traced = authorized
            .clone()
            .header(&format!("traceparent: 00-{TRACE_ID}-00f067aa0ba902b7-01"));
        peer.send(&traced).assert_created();
        let refused = [
            peer.send(&put),
            peer.send(&authorized.clone().method("DELETE").target("/x%0Ay")),
            peer.connect().send("no HTTP\r\n\r\n").answer(),
        ];
        let lines = end(peer, &log);
        assert_eq!(lines.len(), 4, "{lines:#?}");
        lines.iter().for_each(assert_has_members);
        let expected = [
            ("POST", "/_put", 201, "alice"),
            ("POST", "/_put", 401, ""),
            ("DELETE", "/x%0Ay", 405, "alice"),
            ("", "", 400, ""),
        ];
        let mut ids = vec![Some(TRACE_ID.to_owned())];
        ids.extend(refused.map(|answer| answer.request_id));
        for ((line, expected), id) in lines.iter().zip(expected).zip(ids) {
            assert_is(line, expected, id);
        }
        assert_eq!(lines[0]["body_bytes"], put.body_len());
        assert_eq!(lines[1]["body_bytes"], 0);
        let written = fs::read_to_string(&log).expect("reads");
        assert!(
            !written.contains("secret") && !written.contains(TOKEN),
            "{written}"
        );
        let mode = fs::metadata(&log).expect("is there").permissions().mode();
        assert_eq!(mode & 0o137, 0, "others can read it");
    }
}

#[track_caller]
fn assert_has_members(line: &Value) {
    let members = line.as_object().expect("is an object").keys();
    let members: BTreeSet<&str> = members.map(String::as_str).collect();
    assert_eq!(members, BTreeSet::from(MEMBERS));
    assert_eq!(line["address"], "127.0.0.1");
    let time = line["time"].as_str().expect("is text");
    assert!(time.ends_with('Z'), "{time}");
    let duration = line["duration_seconds"].as_f64().expect("is a number");
    assert!((0.0..60.0).contains(&duration), "{duration}");
}

/// Asserts the method, the path, the status, the client and the id of a line. Empty texts are null.
#[track_caller]
fn assert_is(line: &Value, expected: (&str, &str, u16, &str), id: Option<String>) {
    let (method, path, status, client) = expected;
    let optional = |text: &str| match text {
        "" => Value::Null,
        text => text.into(),
    };
    assert_eq!(line["method"], optional(method));
    assert_eq!(line["path"], optional(path));
    assert_eq!(line["status"], status);
    assert_eq!(line["client"], optional(client));
    assert_eq!(line["request_id"].as_str().map(str::to_owned), id);
}

#[test]
fn sighup_reopens_file() {
    let directory = directory();
    let (log, rotated) = (directory.path().join("log"), directory.path().join("log.1"));
    let mut peer = peer(&log).start();
    peer.put("key1", "1").assert_created();
    wait_until("the line is written", || lines(&log).len() == 1);
    fs::rename(&log, &rotated).expect("renames");
    peer.put("key2", "1").assert_created();
    wait_until("the line is written", || lines(&rotated).len() == 2);
    peer.signal(Signal::HUP);
    peer.log_line("access log reopened");
    peer.put("key3", "1").assert_created();
    wait_until("the line is written", || lines(&log).len() == 1);
    // A path that cannot be opened leaves the file in use.
    fs::rename(&log, directory.path().join("log.2")).expect("renames");
    fs::create_dir(&log).expect("makes a directory");
    peer.signal(Signal::HUP);
    peer.log_line("access log not reopened");
    peer.log_line("not all was reloaded");
    peer.put("key4", "1").assert_created();
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    assert_eq!(lines(&rotated).len(), 2);
    assert_eq!(lines(&directory.path().join("log.2")).len(), 2);
}

#[test]
fn full_disk_does_not_stop_puts() {
    let peer = peer(Path::new("/dev/full")).admin().start();
    let mut connection = peer.connect();
    for number in 0..100 {
        let put = Post::put(&format!("key{number}"), "1");
        connection.ask(&put).assert_created();
    }
    peer.log_line("cannot write the access log");
    let lines = |outcome: &str| {
        let sample = format!("alldata_peer_access_log_lines_total{{outcome=\"{outcome}\"}}");
        scrape(peer.admin()).value(&sample)
    };
    wait_until("all lines are dropped", || lines("write_failed") == 100.0);
    assert_eq!((lines("written"), lines("queue_full")), (0.0, 0.0));
    assert_eq!(peer.stored().lines().count(), 100);
}

#[test]
fn pipe_that_nobody_reads_stops_neither_start_nor_puts() {
    let directory = directory();
    let pipe = directory.path().join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).expect("makes a pipe");
    let output = run(&["serve", "--sink=memory:", "--access-log", text(&pipe)]);
    assert_eq!(output.code, Some(1), "{output:?}");
    let reader = fs::OpenOptions::new().read(true).write(true).open(&pipe);
    let reader = reader.expect("opens");
    let peer = peer(&pipe).start();
    drop(reader);
    peer.put("key1", "1").assert_created();
    peer.log_line("cannot write the access log");
    peer.put("key2", "1").assert_created();
}

#[test]
fn lines_go_to_standard_output() {
    let mut peer = peer(Path::new("-")).sink("memory:").start();
    peer.put("key1", "1").assert_created();
    peer.signal(Signal::HUP);
    peer.log_line("SIGHUP");
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    let lines = peer.rest_of_stdout();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line: Value = serde_json::from_str(&lines[0]).expect("is JSON");
    assert_eq!(line["status"], 201);
}

/// The output of a server that does not start with this access log.
#[track_caller]
fn refused(log: &str, sink: &str, code: i32) -> Output {
    let arguments = [&serve(sink)[..], &["--access-log", log]].concat();
    let output = run(&arguments);
    assert_eq!(output.code, Some(code), "{output:?}");
    let checked = run(&[&arguments[..], &["--check"]].concat());
    assert_eq!(checked.code, Some(code), "{checked:?}");
    output
}

#[test]
fn file_that_cannot_be_used_is_refused_at_the_start() {
    let directory = directory();
    let store = directory.path().join("store.db");
    let (_, _) = Peer::builder()
        .sink(&format!("sqlite:{}", text(&store)))
        .start()
        .end(Signal::TERM);
    let database = refused(text(&store), "memory:", 1);
    assert!(database.stderr.contains("database"), "{database:?}");
    let missing = refused("/nonexistent/access.log", "memory:", 1);
    let named = missing.stderr.contains("--access-log");
    assert!(
        named && missing.stderr.contains("/nonexistent/access.log"),
        "{missing:?}"
    );
    for (log, sink) in [("-", "-"), ("-", "/dev/stdout"), ("/dev/stdout", "-")] {
        let both = refused(log, &format!("ndjson:{sink}"), 2);
        assert!(both.stderr.contains("would both write"), "{both:?}");
    }
    let events = directory.path().join("events.ndjson");
    for _ in 0..2 {
        // Before the file exists, and after.
        let both = refused(text(&events), &format!("ndjson:{}", text(&events)), 2);
        assert!(both.stderr.contains("would both write"), "{both:?}");
        fs::write(&events, "").expect("writes");
    }
    let _server = Peer::builder()
        .sink(&format!("ndjson:{}", text(&events)))
        .start();
    let locked = run(&[
        "serve",
        "--sink=memory:",
        "--port=0",
        "--access-log",
        text(&events),
    ]);
    assert!(locked.assert_failed(1).contains("locked"), "{locked:?}");
}

#[test]
fn check_creates_no_file() {
    let directory = directory();
    let log = directory.path().join("access.log");
    let arguments = [
        "serve",
        "--check",
        "--sink=memory:",
        "--access-log",
        text(&log),
    ];
    run(&arguments).assert_ok();
    assert!(!log.exists());
}

/// The output of a log, in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("is whole").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn request_that_is_aborted_has_a_line_without_status() {
    let output = Memory::default();
    let (enter, entered) = mpsc::channel();
    let log = AccessLog::to_writer(output.clone()).expect("starts");
    let builder = PeerServer::builder().on_put(move |key, _| {
        let enter = enter.clone();
        async move {
            if key == "waits" {
                enter.send(()).expect("the test waits");
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    });
    let server = Embedded::start(builder.access_log(log).limits(Limits {
        drain_timeout: Duration::from_millis(1),
        ..Limits::default()
    }));
    let mut connection = server.connect();
    connection.ask(&Post::put("key1", "1")).assert_created();
    connection.send(Post::put("waits", "1").bytes());
    entered.recv_timeout(DEADLINE).expect("reaches the sink");
    server.close();
    assert_eq!(connection.rest(), b"");
    let statuses = || {
        let written = output.0.lock().expect("is whole").clone();
        let lines = written.split_inclusive(|byte| *byte == b'\n');
        let lines = lines.map(|line| serde_json::from_slice::<Value>(line).expect("is JSON"));
        lines.map(|line| line["status"].clone()).collect::<Vec<_>>()
    };
    wait_until("both are logged", || statuses().len() == 2);
    assert_eq!(statuses(), [Value::from(201), Value::Null]);
}
