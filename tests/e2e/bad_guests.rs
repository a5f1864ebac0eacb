//! Faulty guests that are called through `wasi:http`: the client gets a 500, and the next request is served.
//!
//! The guests are components in text form, each with one fault.

use std::fs;

use alldata_peer_server_http::{Limits, PeerServer, sinks::DiscardSink};
use rustix::process::Signal;

use crate::support::protocol_guest::{self, CREATED, guest_that};
use crate::support::{Connection, Embedded, Peer, Post};

/// A component that exports `wasi:http/incoming-handler`, with `handle` as the body of its only function.
pub(crate) fn guest(handle: &str) -> Vec<u8> {
    wat::parse_str(guest_text(handle)).expect("is a component")
}

fn guest_text(handle: &str) -> String {
    format!(
        r#"(component
            (import "wasi:http/types@0.2.0" (instance $types
                (export "incoming-request" (type (sub resource)))
                (export "response-outparam" (type (sub resource)))))
            (alias export $types "incoming-request" (type $request))
            (alias export $types "response-outparam" (type $out))
            (core module $module
                (memory 1)
                (func (export "handle") (param i32 i32) {handle}))
            (core instance $core (instantiate $module))
            (func $handle (param "request" (own $request)) (param "response-out" (own $out))
                (canon lift (core func $core "handle")))
            (instance $handler (export "handle" (func $handle)))
            (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#
    )
}

fn serve(handle: &str) -> Embedded {
    Embedded::start(
        PeerServer::builder()
            .sink(DiscardSink)
            .component(guest(handle)),
    )
}

/// Asserts that every request on one connection is answered with a 500 without details.
fn assert_fails_and_lives_on(handle: &str) {
    let server = serve(handle);
    let mut connection = Connection::open(server.address());
    for _ in 0..3 {
        let answer = connection.send(Post::put("key1", "1").bytes()).answer();
        let problem = answer.assert_problem(500);
        assert_eq!(problem["stored"], "unknown");
        assert_eq!(problem["retry"], true);
        assert!(!answer.text().contains("wasm"), "{}", answer.text());
    }
}

#[test]
fn trapping_guest_is_500() {
    assert_fails_and_lives_on("unreachable");
}

#[test]
fn guest_without_response_is_500() {
    assert_fails_and_lives_on("");
}

#[test]
fn stack_overflow_of_guest_is_500() {
    assert_fails_and_lives_on("(call 0 (local.get 0) (local.get 1))");
}

#[test]
fn looping_guest_is_stopped_and_blocks_no_other_put() {
    let server = serve("(loop (br 0))");
    // More calls than threads.
    let mut looping: Vec<Connection> = (0..8).map(|_| server.connect()).collect();
    for connection in &mut looping {
        connection.send(Post::put("key1", "1").bytes());
    }
    for connection in &mut looping {
        connection.answer().assert_problem(500);
    }
    server.close();
}

#[test]
fn guest_trapping_at_instantiation_is_500() {
    let start = "(func $start unreachable) (start $start)";
    let text = guest_text("").replace("(memory 1)", &format!("(memory 1) {start}"));
    let component = wat::parse_str(text).expect("is a component");
    let server = Embedded::start(PeerServer::builder().sink(DiscardSink).component(component));
    server.put("key1", "1").assert_problem(500);
}

#[test]
fn memory_beyond_limit_is_denied_to_guest() {
    // 1,600 pages are 100 MiB; the guest traps if it gets them.
    let grow = "(if (i32.ne (memory.grow (i32.const 1600)) (i32.const -1)) (then unreachable))";
    let server = serve(grow);
    let detail = server.put("key1", "1").detail(500);
    assert!(detail.contains("log"), "{detail}");
}

/// The guest grows its memory to the limit, and then by one page more.
#[test]
fn memory_limit_of_guest_is_exact_to_the_page() {
    // It traps if the first growth fails or the second succeeds. It starts with one page.
    let grow = |pages: u32, wrong: &str| {
        format!(
            "(if ({wrong} (memory.grow (i32.const {pages})) (i32.const -1)) (then unreachable))"
        )
    };
    let does = grow(15, "i32.eq") + &grow(1, "i32.ne");
    let builder = protocol_guest::builder(&guest_that(&does, CREATED, ""));
    let server = Embedded::start(builder.limits(Limits {
        max_guest_memory_bytes: 16 * 64 * 1024,
        ..Limits::default()
    }));
    let mut connection = server.connect();
    for _ in 0..3 {
        connection.ask(&Post::put("key1", "1")).assert_created();
    }
}

#[test]
fn trap_is_logged_once_with_its_reason() {
    let too_much = "(if (i32.eq (memory.grow (i32.const 1600)) (i32.const -1)) (then unreachable))";
    for (handle, reason) in [
        ("unreachable", "wasm `unreachable` instruction executed"),
        ("(loop (br 0))", "it used more than 1s of processor time"),
        (too_much, "it requested 104923136 bytes of memory"),
    ] {
        let directory = tempfile::tempdir().expect("makes a directory");
        let file = directory.path().join("guest.wasm");
        fs::write(&file, guest(handle)).expect("writes");
        let file = file.to_str().expect("is text");
        let arguments = ["--component", file, "--max-guest-time", "1"];
        let mut peer = Peer::builder().arguments(&arguments).start();
        for _ in 0..2 {
            peer.put("key1", "1").assert_problem(500);
        }
        peer.signal(Signal::TERM);
        assert_eq!(peer.wait().code(), Some(0));
        let log = peer.rest_of_stderr();
        let traps = log.iter().filter(|line| line.contains("the guest"));
        let traps: Vec<&String> = traps.collect();
        assert_eq!(traps.len(), 2, "{log:#?}");
        assert!(traps.iter().all(|trap| trap.contains(reason)), "{log:#?}");
    }
}

#[test]
fn trapped_guests_release_their_slots() {
    let builder = PeerServer::builder()
        .sink(DiscardSink)
        .component(guest("unreachable"))
        .limits(Limits {
            max_concurrent_requests: 2,
            ..Limits::default()
        });
    let server = Embedded::start(builder);
    for _ in 0..10 {
        server.put("key1", "1").assert_problem(500);
    }
}

#[test]
fn invalid_component_is_an_error() {
    let error = listen_error(b"(module)".to_vec());
    assert!(
        error.contains("cannot use the component of 8 bytes"),
        "{error}"
    );
}

#[test]
fn missing_handler_export_is_named() {
    let error = listen_error(wat::parse_str("(component)").expect("is a component"));
    assert!(error.contains("wasi:http/incoming-handler"), "{error}");
}

#[test]
fn unknown_import_is_named() {
    let text = r#"(component (import "acme:queue/send" (func)))"#;
    let error = listen_error(wat::parse_str(text).expect("is a component"));
    assert!(error.contains("acme:queue/send"), "{error}");
}

/// The error with which a server with this component does not start, with all causes.
fn listen_error(component: Vec<u8>) -> String {
    let runtime = tokio::runtime::Runtime::new().expect("starts a runtime");
    let builder = PeerServer::builder().sink(DiscardSink).component(component);
    let error = runtime
        .block_on(builder.port(0).listen())
        .expect_err("does not start");
    format!("{:#}", anyhow::Error::from(error))
}
