//! How requests are transferred: framing, keep-alive, pipelining, and slow clients.
//!
//! Bodies are in `protocol`, the end of a server in `shutdown`, clients that go away in `lost_clients`, bodies
//! that are not read in `unread_bodies`.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use alldata_peer_server_http::{PeerServer, PutError};

use crate::support::{Connection, DEADLINE, Embedded, Peer, Post, chunked};

/// The pause of a slow client between two bytes.
const PAUSE: Duration = Duration::from_millis(5);

/// The header section that the original Node client sends.
const NODE_HEAD: &str = "POST /_put HTTP/1.1\r\nHost: peer\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n";

pub(crate) const EVENT: &str = "{\"n\u{e4}me\":\"\u{20ac} \u{1F600}\",\"n\":12345678901234567890}";

/// A body with characters of 1 to 4 bytes.
pub(crate) fn body() -> Vec<u8> {
    format!("{{\"key\":\"cl\u{e9}\",\"event\":{EVENT}}}").into_bytes()
}

/// Asserts that the put of [`body`] is the next one that reached the sink.
#[track_caller]
pub(crate) fn assert_put(puts: &Receiver<(String, String)>) {
    let put = ("cl\u{e9}".to_owned(), EVENT.to_owned());
    assert_eq!(puts.try_recv(), Ok(put));
}

/// A put of [`body`], with `Content-Length` and chunked.
pub(crate) fn both() -> [Post; 2] {
    [Post::new(body()), Post::chunks(&[&body()])]
}

#[track_caller]
pub(crate) fn assert_nothing_put(puts: &Receiver<(String, String)>) {
    assert_eq!(puts.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn body_split_at_any_byte_is_put_completely() {
    let (server, puts) = Embedded::capturing();
    let body = body();
    let mut connection = server.connect();
    for at in 1..body.len() {
        let post = Post::chunks(&[&body[..at], &body[at..]]);
        connection.ask(&post).assert_created();
        assert_put(&puts);
        // The same split, with the second part in a packet of its own.
        let post = Post::new(body.clone());
        connection.send(post.head()).send(&body[..at]);
        connection.send(&body[at..]);
        connection.answer().assert_created();
        assert_put(&puts);
    }
}

#[test]
fn body_in_one_byte_chunks_is_put_completely() {
    let (server, puts) = Embedded::capturing();
    let body = body();
    let bytes: Vec<&[u8]> = body.chunks(1).collect();
    let post = Post::chunks(&bytes);
    server.send(&post).assert_created();
    assert_put(&puts);
    let mut connection = server.connect();
    for byte in post.bytes().chunks(1) {
        connection.send(byte);
    }
    connection.answer().assert_created();
    assert_put(&puts);
}

#[test]
fn chunk_extensions_and_trailers_are_no_part_of_the_body() {
    let (server, puts) = Embedded::capturing();
    let body = String::from_utf8(body()).expect("is text");
    let framed = format!(
        "{:X};a=b;c=\"d\"\r\n{body}\r\n0\r\nX-Trailer: 1\r\n\r\n",
        body.len()
    );
    for _ in 0..2 {
        let mut connection = server.connect();
        connection.send(NODE_HEAD).send(&framed);
        connection.answer().assert_created();
        assert_put(&puts);
        // Other servers may see the end of such a body elsewhere: see `trailers`.
        assert_eq!(connection.rest(), b"");
    }
}

#[test]
fn headers_of_original_client_suffice() {
    let (server, puts) = Embedded::capturing();
    let mut connection = server.connect();
    for _ in 0..3 {
        connection.send(NODE_HEAD).send(chunked(&[&body()]));
        connection.answer().assert_created();
        assert_put(&puts);
    }
}

#[test]
fn pipelined_puts_are_answered_in_order() {
    // The sink returns the key in its error, which identifies the response.
    let builder = PeerServer::builder().on_put(|key, _| async { Err(PutError::Rejected(key)) });
    let server = Embedded::start(builder);
    let requests = (0..30).flat_map(|number| match number {
        7 => Post::new("{").bytes(),
        11 => Post::put("unread", "1").method("PUT").bytes(),
        _ if number % 2 == 0 => Post::put(&format!("key{number}"), "1").bytes(),
        _ => {
            let body = format!("{{\"key\":\"key{number}\",\"event\":1}}");
            Post::chunks(&[body.as_bytes()]).bytes()
        }
    });
    let mut connection = server.connect();
    connection.send(requests.collect::<Vec<_>>());
    for number in 0..30 {
        let answer = connection.answer();
        match number {
            7 => assert_eq!(answer.status, 400),
            11 => assert_eq!(answer.status, 405),
            _ => assert_eq!(answer.detail(422), format!("key{number}")),
        }
    }
}

#[test]
fn many_puts_travel_on_one_connection() {
    let peer = Peer::builder().sink("memory:").start();
    let mut connection = peer.connect();
    for number in 0..2000 {
        let put = Post::put(&format!("key{number}"), "{\"customer\":1}");
        connection.ask(&put).assert_created();
    }
}

#[test]
fn http_1_0_ends_the_connection_unless_it_is_kept_alive() {
    let (server, puts) = Embedded::capturing();
    let mut connection = server.connect();
    let kept = Post::new(body()).http10().header("Connection: keep-alive");
    for _ in 0..3 {
        let answer = connection.ask(&kept);
        answer.assert_created();
        let kept = answer.header("connection").map(str::to_ascii_lowercase);
        assert_eq!(kept.as_deref(), Some("keep-alive"));
        assert_put(&puts);
    }
    connection.ask(&Post::new(body()).http10()).assert_created();
    assert_put(&puts);
    assert_eq!(connection.rest(), b"");
    server.send(&kept.header("Host: peer")).assert_created();
    server.send(&Post::new("{").http10()).assert_problem(400);
}

#[test]
fn connection_close_is_answered_and_ends_the_connection() {
    let (server, puts) = Embedded::capturing();
    for (post, status) in [
        (Post::new(body()), 201),
        (Post::new("{"), 400),
        (Post::new("").method("GET"), 405),
    ] {
        let mut connection = server.connect();
        let answer = connection.ask(&post.header("Connection: close"));
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(connection.rest(), b"");
    }
    assert_put(&puts);
    assert_nothing_put(&puts);
}

#[test]
fn expect_100_gets_continue() {
    let (server, puts) = Embedded::capturing();
    let mut connection = server.connect();
    for post in both() {
        let post = post.header("Expect: 100-continue");
        assert_eq!(connection.send(post.head()).any_answer(false).status, 100);
        assert!(connection.is_quiet_for(PAUSE), "an answer before the body");
        assert_nothing_put(&puts);
        connection.send(&post.bytes()[post.head().len()..]);
        assert_eq!(connection.any_answer(false).status, 201);
        assert_put(&puts);
    }
    let impatient = Post::new(body()).header("Expect: 100-continue");
    connection.ask(&impatient).assert_created();
    assert_put(&puts);
    // HTTP/1.0 has no interim responses.
    let old = Post::new(body()).http10().header("Expect: 100-continue");
    connection
        .send(old.bytes())
        .any_answer(false)
        .assert_created();
    assert_put(&puts);
}

#[test]
fn slow_client_is_served() {
    let (server, puts) = Embedded::capturing();
    for post in both() {
        let mut connection = server.connect();
        for byte in post.bytes().chunks(1) {
            assert!(connection.is_quiet_for(PAUSE), "an answer too early");
            assert_nothing_put(&puts);
            connection.send(byte);
        }
        connection.answer().assert_created();
        assert_put(&puts);
    }
}

#[test]
fn stalled_body_is_408_and_closes_connection() {
    let peer = Peer::builder().arguments(&["--body-timeout", "1"]).start();
    let [sized, chunks] = both();
    let (sized_bytes, chunks_bytes) = (sized.bytes(), chunks.bytes());
    let stalls = [
        sized.head(),
        sized_bytes[..sized_bytes.len() - 1].to_vec(),
        chunks.head(),
        // Everything but the last chunk, which ends the body.
        chunks_bytes[..chunks_bytes.len() - 5].to_vec(),
    ];
    let mut connections: Vec<Connection> = stalls.iter().map(|_| peer.connect()).collect();
    for (connection, request) in connections.iter_mut().zip(stalls) {
        connection.send(request);
    }
    for mut connection in connections {
        connection.answer().assert_problem(408);
        connection.rest();
    }
    assert_eq!(peer.stored(), "");
}

#[test]
fn trickling_body_is_408_at_its_deadline() {
    let peer = Peer::builder().arguments(&["--body-timeout", "1"]).start();
    let mut connection = peer.connect();
    connection.send(Post::new(vec![b' '; 1_000_000]).head());
    let end = Instant::now() + DEADLINE;
    while connection.is_quiet_for(PAUSE) {
        assert!(Instant::now() < end, "no answer in time");
        connection.try_send(" ");
    }
    connection.answer().assert_problem(408);
    connection.rest();
}

#[test]
fn garbage_in_the_framing_of_a_body_is_never_put() {
    let (server, puts) = Embedded::capturing();
    let body = String::from_utf8(body()).expect("is text");
    let size = body.len();
    for framed in [
        format!("x\r\n{body}\r\n0\r\n\r\n"),
        format!("{size:x}\r\n{body}0\r\n\r\n"),
        format!("{size:x}\r\n{body}\r\nnonsense\r\n\r\n"),
        format!("fffffffffffffffff\r\n{body}\r\n0\r\n\r\n"),
    ] {
        let mut connection = server.connect();
        let rest = connection.send(NODE_HEAD).try_send(&framed).rest();
        let rest = String::from_utf8_lossy(&rest);
        assert!(!rest.contains(" 201 "), "{framed:?}: {rest:?}");
        assert_nothing_put(&puts);
    }
}
