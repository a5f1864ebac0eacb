//! The two ways to a component that puts into the host's sink: `put-handler`, and `wasi:http`.
//!
//! Never says what is answered: only that a client can't tell one way from the other.

use std::collections::BTreeSet;

use alldata_peer_server_http::sinks::MemorySink;
use alldata_peer_server_http::{Limits, PeerServer, PeerServerBuilder, PutError, PutSink as _};

use crate::component::names;
use crate::protocol::{FIELDS, HOSTS, TARGETS};
use crate::request_table::MALFORMED;
use crate::support::{Answer, Embedded, Post, handler_only};

/// The largest body that the servers take, in bytes.
const MAX_BODY_BYTES: usize = 4000;

#[test]
fn the_component_for_the_long_way_has_no_other() {
    let (imports, exports) = names(handler_only());
    let handler = BTreeSet::from(["wasi:http/incoming-handler@0.2.12".to_owned()]);
    assert_eq!(exports, handler);
    assert!(imports.contains("alldata:peer/put-sink@0.1.0"));
}

#[test]
fn a_client_reads_the_same_either_way() {
    let servers = both_ways().map(serve);
    for post in ordinary().chain(peculiar()).chain(travelling()) {
        let [short, long] = servers.each_ref().map(|server| {
            let mut connection = server.connect();
            connection.send(post.bytes());
            let answer = match post.head().starts_with(b"HEAD") {
                true => connection.answer_to_head(),
                false => connection.answer(),
            };
            (told(answer), connection.finish().rest())
        });
        assert_eq!(short, long, "{post:?}");
    }
}

#[test]
fn a_connection_goes_on_in_the_same_way() {
    let [short, long] = both_ways().map(serve).map(|server| {
        let mut connection = server.connect();
        let answers = ordinary().map(|post| told(connection.ask(&post)));
        answers.collect::<Vec<_>>()
    });
    assert_eq!(short, long);
}

/// A guest that has answered is done, so that the next request needs no place beside it.
#[test]
fn one_place_is_enough_for_one_request_after_the_other() {
    for builder in both_ways() {
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

/// Bodies count as in flight until their request has ended, however it does.
#[test]
fn what_a_body_took_of_the_budget_is_given_back() {
    for builder in both_ways() {
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

fn both_ways() -> [PeerServerBuilder; 2] {
    let short = PeerServer::builder();
    let long = PeerServer::builder().component(handler_only());
    [short, long]
}

/// A server whose sink keeps events, but for keys that name what it is to answer.
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

/// Requests that leave the connection to the next one.
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

/// Requests after which the connection may end, or whose answer has no body.
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

/// Puts with heads that the component has to be given through `wasi:http`, whatever is in them.
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

/// An answer without what differs from second to second. The order of fields means nothing.
fn told(mut answer: Answer) -> Answer {
    answer.headers.retain(|(name, _)| name != "date");
    answer.headers.sort();
    answer
}
