//! The id of a request: in each problem document, and in each line of the log about the request.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use alldata_peer_server_http::PeerServer;
use alldata_peer_server_http::sinks::MemorySink;
use rustix::process::Signal;
use serde_json::Value;

use crate::bad_guests::guest;
use crate::support::{Answer, Embedded, Peer, Post, handler_only, handler_only_file};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TRACEPARENT: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The id of a refused request: the same in the field and in the document.
#[track_caller]
fn id(answer: &Answer) -> String {
    let id = answer.request_id.clone().expect("has an id");
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    assert!(id.len() == 32 && id.bytes().all(is_digit), "{id}");
    id
}

/// Puts that are refused: by the host before a body, by the guest, and by the sink.
fn refused() -> [Post; 4] {
    [
        Post::put("key1", "1").method("PUT"),
        Post::put("key1", "1").host("a b"),
        Post::new("{"),
        Post::put("held", "2"),
    ]
}

#[test]
fn each_problem_has_an_id_of_its_own() {
    for builder in [
        PeerServer::builder(),
        PeerServer::builder().compiled_component(handler_only()),
    ] {
        let server = Embedded::start(builder.sink(MemorySink::new(1 << 20)));
        let mut ids = BTreeSet::new();
        for _ in 0..2 {
            let mut connection = server.connect();
            let held = connection.ask(&Post::put("held", "1"));
            held.assert_created();
            assert_eq!(held.request_id, None);
            let [_, _, malformed, conflict] = refused();
            for post in [malformed, conflict] {
                ids.insert(id(&connection.ask(&post)));
            }
            for post in refused() {
                ids.insert(id(&server.send(&post)));
            }
            // No request at all.
            ids.insert(id(&server.connect().send("no HTTP\r\n\r\n").answer()));
        }
        assert_eq!(ids.len(), 2 * 7);
        let head = Post::new("").method("HEAD").bytes();
        let answer = server.connect().send(head).answer_to_head();
        assert!(answer.header("content-length").is_some_and(|it| it != "0"));
        id(&answer);
    }
}

#[test]
fn id_is_the_trace_id_of_a_valid_traceparent() {
    for builder in [
        PeerServer::builder(),
        PeerServer::builder().compiled_component(handler_only()),
    ] {
        let server = Embedded::start(builder.sink(MemorySink::new(1 << 20)));
        server.put("held", "1").assert_created();
        for post in refused() {
            assert_eq!(id(&server.send(&post.header(TRACEPARENT))), TRACE_ID);
        }
        let mut connection = server.connect();
        let traced = refused()[3].clone().header(TRACEPARENT);
        assert_eq!(id(&connection.ask(&traced)), TRACE_ID);
        // It does not outlast its request.
        assert_ne!(id(&connection.ask(&refused()[3])), TRACE_ID);
        let invalid = TRACEPARENT.replace("-01", "-0");
        assert_ne!(id(&server.send(&Post::new("{").header(&invalid))), TRACE_ID);
    }
}

/// The fields of the lines of a log that names this request, by their messages.
fn lines_about(peer: Peer, id: &str) -> Vec<Value> {
    let mut peer = peer;
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    let lines = peer.rest_of_stderr();
    let lines = lines.iter().map(|line| {
        let line: Value = serde_json::from_str(line).expect("is JSON");
        line["fields"].clone()
    });
    lines.filter(|fields| fields["request_id"] == id).collect()
}

#[track_caller]
fn assert_has(lines: &[Value], message: &str) {
    let has = lines.iter().any(|line| line["message"] == message);
    assert!(has, "{message}: {lines:#?}");
}

#[test]
fn refusal_in_log_has_the_id() {
    let peer = Peer::builder().arguments(&["--log-format", "json"]).start();
    let id = id(&peer.send(&Post::new("{")));
    let lines = lines_about(peer, &id);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!(lines[0]["reason"], "bad_request");
}

#[test]
fn failure_of_sink_in_log_has_the_id() {
    for component in [None, Some(handler_only_file())] {
        let peer = Peer::builder().arguments(&["--log-format", "json"]);
        let peer = match component {
            None => peer,
            Some(file) => peer.arguments(&["--component", file.to_str().expect("is text")]),
        };
        let peer = peer.sink("ndjson:/dev/full").start();
        let answer = peer.send(&Post::put("key1", "1").header(TRACEPARENT));
        answer.assert_problem(500);
        assert_eq!(id(&answer), TRACE_ID);
        let lines = lines_about(peer, TRACE_ID);
        assert_has(&lines, "put failed");
    }
}

#[test]
fn trap_in_log_has_the_id() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = directory.path().join("guest.wasm");
    fs::write(&path, guest("unreachable")).expect("writes");
    let trapping = ["--component", path.to_str().expect("is text")];
    // The built-in component traps when its memory is used up.
    let small = ["--max-guest-memory", "2M"];
    let large = format!("\"{}\"", "x".repeat(4 << 20));
    for (arguments, event) in [(trapping, "1"), (small, &large)] {
        let peer = Peer::builder().arguments(&["--log-format", "json"]);
        let peer = peer.arguments(&arguments);
        let peer = peer.start();
        let answer = peer.put("key1", event);
        answer.assert_problem(500);
        assert_has(&lines_about(peer, &id(&answer)), "the guest trapped");
    }
}

#[test]
fn authorization_in_log_has_the_id() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = directory.path().join("tokens");
    fs::write(&path, format!("alice:{TOKEN}\n")).expect("writes");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("is set");
    let path = path.to_str().expect("is text");
    let peer = Peer::builder()
        .arguments(&["--log-format", "json", "--token-file", path])
        .own_env("RUST_LOG", "debug")
        .start();
    let put = Post::put("key1", "1").header(TRACEPARENT);
    let authorized = put.header(&format!("Authorization: Bearer {TOKEN}"));
    peer.send(&authorized).assert_created();
    assert_has(&lines_about(peer, TRACE_ID), "authorized");
}
