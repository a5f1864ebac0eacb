//! The two entry points of a component that uses the host's sink, `protocol` and `wasi:http`: a client can't
//! distinguish them.

use std::collections::BTreeSet;

use alldata_peer_server_http::sinks::MemorySink;
use alldata_peer_server_http::{Limits, PeerServer, PeerServerBuilder, PutError, PutSink as _};

use crate::component::names;
use crate::protocol::{FIELDS, HOSTS, TARGETS};
use crate::request_table::MALFORMED;
use crate::support::{Answer, Embedded, Post, handler_only, handler_only_binary};

/// The largest body that the servers accept, in bytes.
const MAX_BODY_BYTES: usize = 4000;

#[test]
fn wasi_http_component_has_no_other_entry_point() {
    let (imports, exports) = names(handler_only_binary());
    let handler = BTreeSet::from(["wasi:http/incoming-handler@0.2.12".to_owned()]);
    assert_eq!(exports, handler);
    assert!(imports.contains("alldata:peer/put-sink@0.1.0"));
}

#[test]
fn responses_are_the_same() {
    let servers = both_entry_points().map(serve);
    for post in ordinary().chain(peculiar()).chain(travelling()) {
        let [protocol, wasi_http] = servers.each_ref().map(|server| {
            let mut connection = server.connect();
            connection.send(post.bytes());
            let answer = match post.head().starts_with(b"HEAD") {
                true => connection.answer_to_head(),
                false => connection.answer(),
            };
            (comparable(answer), connection.finish().rest())
        });
        assert_eq!(protocol, wasi_http, "{post:?}");
    }
}

#[test]
fn responses_on_one_connection_are_the_same() {
    let [protocol, wasi_http] = both_entry_points().map(serve).map(|server| {
        let mut connection = server.connect();
        let answers = ordinary().map(|post| comparable(connection.ask(&post)));
        answers.collect::<Vec<_>>()
    });
    assert_eq!(protocol, wasi_http);
}

/// A request ends with its response, so that the next one needs no second permit.
#[test]
fn sequential_requests_need_one_permit() {
    for builder in both_entry_points() {
        let server = serve(builder.limits(Limits {
            max_concurrent_requests: 1,
            ..Limits::default()
        }));
        let mut connection = server.connect();
        for number in 0..200 {
            let put = Post::put(&format!("key{number}"), "1");
            connection.ask(&put).assert_created();
            connection.ask(&Post::new("{")).assert_problem(400);
            connection
                .ask(&Post::put("rejected", "1"))
                .assert_problem(422);
        }
    }
}

#[test]
fn bytes_of_a_body_are_released_at_the_end_of_its_request() {
    for builder in both_entry_points() {
        let server = serve(builder.limits(Limits {
            max_buffered_bytes: MAX_BODY_BYTES as u64,
            ..Limits::default()
        }));
        let event = format!("\"{}\"", "x".repeat(MAX_BODY_BYTES / 2));
        let keys = ["rejected", "unavailable", "unknown", "failed", "panics"];
        for _ in 0..3 {
            for key in keys {
                server.put(key, &event);
            }
            server
                .send(&Post::new(event.as_bytes()))
                .assert_problem(400);
            let unread = Post::put("key1", &event).method("PUT");
            server.send(&unread).assert_problem(405);
            let over = "x".repeat(MAX_BODY_BYTES + 1);
            let over = Post::chunks(&[over.as_bytes()]);
            server.send(&over).assert_problem(413);
            let whole = Post::put("key1", &event).bytes();
            let mut cut = server.connect();
            cut.send(&whole[..whole.len() - 1]).finish().rest();
        }
        let large = "x".repeat(MAX_BODY_BYTES - 100);
        server.put("key1", &format!("\"{large}\"")).assert_created();
    }
}

fn both_entry_points() -> [PeerServerBuilder; 2] {
    let protocol = PeerServer::builder();
    let wasi_http = PeerServer::builder().compiled_component(handler_only());
    [protocol, wasi_http]
}

/// A server whose sink stores events, except that some keys name the error to return.
fn serve(builder: PeerServerBuilder) -> Embedded {
    let memory = MemorySink::new(1 << 20).boxed();
    let builder = builder.on_put(move |key, event| {
        let memory = memory.clone();
        async move {
            match key.as_str() {
                "rejected" => Err(PutError::Rejected(format!("Not \"{event}\"\u{1F600}."))),
                "unavailable" => Err(PutError::Unavailable {
                    retry_after_seconds: 7,
                }),
                "unknown" => Err(PutError::Unknown),
                "failed" => Err(PutError::Failed("nobody reads this".to_owned())),
                "panics" => panic!("the test asks for it"),
                _ => memory.put(key, event).await,
            }
        }
    });
    Embedded::start(builder.limits(Limits {
        max_body_bytes: MAX_BODY_BYTES as u64,
        ..Limits::default()
    }))
}

/// Requests that leave the connection open for the next one.
fn ordinary() -> impl Iterator<Item = Post> {
    let malformed = MALFORMED.iter().map(|(body, _)| Post::new(*body));
    let methods = ["GET", "PUT", "BREW", "post"];
    let methods = methods.map(|method| Post::put("method", "1").method(method));
    let keys = ["rejected", "unavailable", "unknown", "failed", "panics"];
    let outcomes = keys.map(|key| Post::put(key, "[\"\u{e9}\", 1.0]"));
    let at_limit = MAX_BODY_BYTES - r#"{"key":"limit","event":""}"#.len();
    let others = [
        Post::put("key1", "1"),
        Post::put("key1", "1.0"),
        Post::put("key1", "2"),
        Post::put("limit", &format!("\"{}\"", "x".repeat(at_limit))),
        Post::put(&"k".repeat(1025), "1"),
        Post::chunks(&[b"{\"key\":\"chunks\",", b"\"event\":1}"]),
        Post::chunks(&[b"{"]),
        Post::chunks(&[]),
        Post::put("target", "1").target("*").method("OPTIONS"),
        Post::put("target", "1").target("http://other/_put?x"),
    ];
    let table = malformed.chain(methods);
    table.chain(outcomes).chain(others)
}

/// Requests after which the connection may be closed, or whose response has no body.
fn peculiar() -> impl Iterator<Item = Post> {
    let over = "x".repeat(MAX_BODY_BYTES + 1);
    let posts = [
        Post::put("method", "1").method("HEAD"),
        Post::put("target", "1").target("*"),
        Post::chunks(&[b"{\"key\":\"chunks\",\"event\":1}"]).method("PUT"),
        Post::new("").method("CONNECT").target("peer:80"),
        Post::new(over.as_bytes()),
        Post::chunks(&[over.as_bytes()]),
        Post::new(over.as_bytes()).method("PUT"),
        Post::put("expect", "1").header("Expect: 100-continue"),
        Post::new("{").header("Expect: 100-continue"),
        Post::put("old", "1").http10(),
        Post::new("{").http10(),
        Post::put("close", "1").header("Connection: close"),
    ];
    posts.into_iter()
}

/// Puts whose header fields must not prevent that the component gets the request through `wasi:http`.
fn travelling() -> impl Iterator<Item = Post> {
    let put = || Post::put("key1", "1");
    let targets = TARGETS.lines().map(move |target| put().target(target));
    let fields = FIELDS.split('\n').map(|field| field.replace('\r', "\r\n"));
    let fields = fields.map(move |field| put().header(&field));
    let hosts = HOSTS.split(' ').chain([""]);
    targets
        .chain(fields)
        .chain(hosts.map(move |host| put().host(host)))
}

/// A response without fields that vary, such as `Date`. The order of fields is ignored.
fn comparable(mut answer: Answer) -> Answer {
    answer.headers.retain(|(name, _)| name != "date");
    answer.headers.sort();
    answer
}
