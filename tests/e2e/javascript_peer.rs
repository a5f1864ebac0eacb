//! The npm package: its fetch handler on Node.js, Deno, Bun and workerd. The interface of the original module is in
//! `javascript_drop_in`.

use std::time::Duration;

use serde_json::Value;

use crate::javascript_server::JavaScriptServer;
use crate::request_table::{self, MALFORMED, Platform as _};
use crate::support::{Connection, JavaScriptPeer, Peer, Post, Runtime, can_make, wait_until};

/// What scripts serve by. `serve` takes a store and options, and returns the server.
const PRELUDE: &str = "
import { createServer, memory, peer, PutError } from 'alldata-peer-server-http';
const serve = (store, options) => {
  const handler = peer(store, options);
  const server = createServer(HANDLER);
  server.listen(0, '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));
  return server;
};
";

/// For how long nothing may be answered that is not due.
const QUIET: Duration = Duration::from_millis(100);

/// The handler of `peer`, which reads bodies from node:http, and another one, which gets a `Request`.
const HANDLERS: [&str; 2] = ["handler", "(request) => handler(request)"];

fn serve(script: &str) -> JavaScriptPeer {
    serve_by(HANDLERS[0], script)
}

/// A server with each of the handlers.
pub(crate) fn serve_both_ways(script: &str) -> [JavaScriptPeer; 2] {
    HANDLERS.map(|handler| serve_by(handler, script))
}

pub(crate) fn serve_by(handler: &str, script: &str) -> JavaScriptPeer {
    let prelude = PRELUDE.replace("HANDLER", handler);
    JavaScriptPeer::run("module", &format!("{prelude}{script}"))
}

#[test]
fn node_answers_the_table_of_requests() {
    request_table::hold(&JavaScriptServer::node());
}

#[test]
fn node_answers_the_table_of_requests_with_another_handler() {
    request_table::hold(&JavaScriptServer::node_with_requests());
}

#[test]
fn deno_answers_the_table_of_requests() {
    hold_on(Runtime::Deno, JavaScriptServer::deno);
}

#[test]
fn bun_answers_the_table_of_requests() {
    hold_on(Runtime::Bun, JavaScriptServer::bun);
}

#[test]
fn workerd_answers_the_table_of_requests() {
    hold_on(Runtime::Workerd, JavaScriptServer::workerd);
}

#[track_caller]
fn hold_on(runtime: Runtime, start: fn() -> JavaScriptServer) {
    if can_make("a platform of JavaScript", runtime.missing()) {
        request_table::hold(&start());
    }
}

#[test]
fn bodies_of_responses_are_those_of_the_native_server() {
    let (native, node) = (Peer::start(), JavaScriptServer::node());
    let mut posts: Vec<Post> = MALFORMED.iter().map(|(body, _)| Post::new(*body)).collect();
    posts.push(Post::put("key1", "1"));
    posts.push(Post::put("key1", "2"));
    posts.push(Post::put("key1", "1").method("GET"));
    for coding in ["identity, GZip", "a\"b c", "\u{e4}"] {
        posts.push(Post::put("k", "1").header(&format!("Content-Encoding: {coding}")));
    }
    for post in posts {
        let (ours, theirs) = (native.send(&post), post.send_to(node.address));
        assert_eq!((theirs.status, theirs.text()), (ours.status, ours.text()));
        for name in ["content-type", "allow", "accept-encoding"] {
            assert_eq!(theirs.header(name), ours.header(name), "{name}");
        }
        // The native server adds the id of the request.
        let length = theirs.body.len().to_string();
        assert_eq!(theirs.header("content-length"), Some(&*length));
    }
}

#[test]
fn byte_order_mark_in_a_key_is_kept() {
    let node = JavaScriptServer::node();
    let mut connection = node.connect();
    connection.ask(&Post::put("k", "1")).assert_created();
    connection
        .ask(&Post::put("\u{feff}k", "2"))
        .assert_created();
    assert_eq!(node.stored("\u{feff}k").as_deref(), Some("2"));
}

#[test]
fn one_of_racing_events_is_stored() {
    let node = JavaScriptServer::node();
    let mut connections: Vec<Connection> = (0..20).map(|_| node.connect()).collect();
    for round in 0..10 {
        let key = format!("key{round}");
        // All are sent before the first response is read.
        for (number, connection) in connections.iter_mut().enumerate() {
            connection.send(Post::put(&key, &number.to_string()).bytes());
        }
        let mut statuses: Vec<u16> = Vec::new();
        for connection in &mut connections {
            statuses.push(connection.answer().status);
        }
        let first = statuses.iter().position(|status| *status == 201);
        let first = first.expect("one is acknowledged");
        assert_eq!(node.stored(&key), Some(first.to_string()));
        statuses.remove(first);
        assert_eq!(statuses, [409; 19]);
    }
}

#[test]
fn errors_of_a_store_have_their_responses() {
    let process = serve(
        "const errors = {
           conflict: () => PutError.conflict(), rejected: () => PutError.rejected('No such customer.'),
           unavailable: () => PutError.unavailable(7), unknown: () => PutError.unknown(),
           failed: () => PutError.failed('secret'), other: () => new Error('secret'), code: () => ({ code: 'conflict' }),
         };
         serve({ put: async (key) => { throw errors[key](); } });",
    );
    let mut connection = process.connect();
    let mut ask = |key: &str| connection.ask(&Post::put(key, "1"));
    ask("conflict").assert_is(409, "Conflict", "no", false);
    let detail = ask("rejected").assert_is(422, "Unprocessable Content", "no", false);
    assert_eq!(detail, "No such customer.");
    let unavailable = ask("unavailable");
    unavailable.assert_is(503, "Service Unavailable", "no", true);
    assert_eq!(unavailable.header("retry-after"), Some("7"));
    ask("unknown").assert_is(504, "Gateway Timeout", "unknown", true);
    for key in ["failed", "other"] {
        let answer = ask(key);
        answer.assert_is(500, "Internal Server Error", "unknown", true);
        assert!(!answer.text().contains("secret"), "{}", answer.text());
        process.log_line("secret");
    }
    ask("code").assert_is(409, "Conflict", "no", false);
}

#[test]
fn store_that_does_not_answer_is_504() {
    let process = serve("serve({ put: () => new Promise(() => {}) }, { putTimeoutMs: 50 });");
    let answer = process.connect().ask(&Post::put("key1", "1"));
    answer.assert_is(504, "Gateway Timeout", "unknown", true);
}

#[test]
fn body_over_the_limit_is_413_and_next_put_is_served() {
    for process in serve_both_ways("serve(memory(), { maxBodyBytes: 1000 });") {
        let address = process.address("listening");
        let large = vec![b'x'; 1001];
        let parts: Vec<&[u8]> = large.chunks(100).collect();
        for post in [Post::new(&*large), Post::chunks(&parts)] {
            let mut connection = Connection::open(address);
            let answer = connection.ask(&post);
            let detail = answer.assert_is(413, "Content Too Large", "no", false);
            assert!(detail.contains("1000"), "{detail}");
        }
        // The rest of this one never comes.
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n";
        let mut connection = Connection::open(address);
        connection.send(head).answer().assert_problem(413);
        assert_eq!(connection.finish().rest(), b"");
        let post = Post::new(&large[1..]);
        post.send_to(address).assert_problem(400);
        Post::put("key1", "1").send_to(address).assert_created();
    }
}

/// The client is still sending when the answer is sent, and is not reset before it has read that.
#[test]
fn unread_body_is_drained() {
    for process in serve_both_ways("serve(memory(), { maxBodyBytes: 1000 });") {
        let address = process.address("listening");
        // More than the buffers of two sockets hold.
        let large = vec![b'x'; 5_000_000];
        let parts: Vec<&[u8]> = large.chunks(65_536).collect();
        for (post, status) in [
            (Post::new(&*large), 413),
            (Post::chunks(&parts), 413),
            (Post::new(&*large).method("PUT"), 405),
        ] {
            let mut connection = Connection::open(address);
            connection.ask(&post).assert_problem(status);
            assert_eq!(connection.rest(), b"");
        }
        // A client that waits for `100 Continue` does not get it.
        let large = Post::new(large).header("Expect: 100-continue");
        for (post, status) in [(large.clone(), 413), (large.method("PUT"), 405)] {
            let mut connection = Connection::open(address);
            let answer = connection.send(post.head()).any_answer(false);
            answer.assert_problem(status);
        }
    }
}

#[test]
fn bodies_over_the_memory_of_all_are_503() {
    for process in serve_both_ways("serve(memory(), { maxBufferedBytes: 100 });") {
        let mut connection = process.connect();
        // What was used is free again.
        for key in ["a", "b", "c", "d", "e"] {
            let event = format!("\"{}\"", "x".repeat(50));
            connection.ask(&Post::put(key, &event)).assert_created();
        }
        let event = format!("\"{}\"", "x".repeat(100));
        let answer = connection.ask(&Post::put("f", &event));
        answer.assert_is(503, "Service Unavailable", "no", true);
    }
}

#[test]
fn memory_of_a_body_that_was_cut_off_is_free_again() {
    // Not by the time-out of that body.
    let script = "serve(memory(), { maxBufferedBytes: 100, bodyTimeoutMs: 3_600_000 });";
    for process in serve_both_ways(script) {
        let address = process.address("listening");
        let mut cut_off = Connection::open(address);
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90\r\n\r\n";
        cut_off.send(head).send("x".repeat(80));
        let status = || Post::put("key1", "1").send_to(address).status;
        wait_until("the memory is used", || status() == 503);
        drop(cut_off);
        wait_until("the memory is free", || status() == 201);
    }
}

/// A store that answers when it is told to, by a put of another connection.
const WAITING: &str = "
    let release;
    const released = new Promise((resolve) => { release = resolve; });
    const store = { async put(key) { key === 'release' ? release() : await released; } };
    serve(store);";

#[test]
fn client_that_sends_no_more_gets_its_response() {
    for process in serve_both_ways(WAITING) {
        let address = process.address("listening");
        let mut client = Connection::open(address);
        client.send(Post::put("key1", "1").bytes()).finish();
        Post::put("release", "1").send_to(address).assert_created();
        client.answer().assert_created();
        assert_eq!(client.rest(), b"");
    }
}

#[test]
fn malformed_request_is_answered_after_the_put_before_it() {
    let malformed = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n";
    for process in serve_both_ways(WAITING) {
        let address = process.address("listening");
        let mut client = Connection::open(address);
        client.send(Post::put("key1", "1").bytes()).send(malformed);
        assert!(client.is_quiet_for(QUIET), "nothing is due yet");
        Post::put("release", "1").send_to(address).assert_created();
        client.answer().assert_created();
        client.answer().assert_problem(400);
    }
}

#[test]
fn slow_body_is_408() {
    for process in serve_both_ways("serve(memory(), { bodyTimeoutMs: 50 });") {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{";
        let answer = process.connect().send(head).answer();
        answer.assert_is(408, "Request Timeout", "no", true);
    }
}

#[test]
fn malformed_requests_are_answered_by_the_component() {
    for node in [
        JavaScriptServer::node(),
        JavaScriptServer::node_with_requests(),
    ] {
        let large = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "x".repeat(20_000)
        );
        let cut_off = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n";
        for (request, status, part) in [
            ("POST / HTTP/1.1\r\n\r\n", 400, "Host"),
            ("POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "Host"),
            ("POST / HTTP/1.1\r\nHo st: a\r\n\r\n", 400, "malformed"),
            ("POST http://[/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"),
            (
                "POST http://a@b/ HTTP/1.1\r\nHost: a\r\n\r\n",
                400,
                "target",
            ),
            (cut_off, 400, "whole"),
            (&large, 431, "header fields"),
        ] {
            let mut connection = node.connect();
            let detail = connection.send(request).answer().detail(status);
            assert!(detail.contains(part), "{detail}");
            // Closed by the server where more of a request can't be found.
            if part != "Host" && part != "target" {
                assert_eq!(connection.rest(), b"");
            }
        }
        Post::put("key1", "1")
            .send_to(node.address)
            .assert_created();
    }
}

/// The package is built with the binaryen that comes with the jco of `tests/jco`, so that one installation does for both.
#[test]
fn package_is_built_by_the_tools_that_its_lock_file_names() {
    let version = |text: &str| {
        let lock: Value = serde_json::from_str(text).expect("is JSON");
        lock["packages"]["node_modules/binaryen"]["version"].clone()
    };
    let package = version(include_str!("../../deploy/javascript/package-lock.json"));
    let tested = version(include_str!("../jco/package-lock.json"));
    assert!(package.is_string());
    assert_eq!(package, tested);
}
