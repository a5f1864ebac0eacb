//! How requests travel: framing, keep-alive, pipelining, and clients that are slow or go away.
//!
//! Never tests what a body may hold (`protocol.rs`) nor the end of a server (`embedding.rs`).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::{Duration, Instant};

use alldata_peer_server_http::{PeerServer, PutError};
use tokio::sync::Notify;

use crate::support::{Connection, DEADLINE, Embedded, Peer, Post, chunked};

/// How long a slow client waits between two bytes.
const PAUSE: Duration = Duration::from_millis(5);

/// More than the buffers of two sockets hold, so that it is sent only while the server reads.
const LARGE_BODY_BYTES: usize = 5_000_000;

/// The head that the original client of Node sends.
const NODE_HEAD: &str = "POST /_put HTTP/1.1\r\nHost: peer\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n";

const EVENT: &str = "{\"n\u{e4}me\":\"\u{20ac} \u{1F600}\",\"n\":12345678901234567890}";

/// A body with characters of 1 to 4 bytes.
fn body() -> Vec<u8> {
    format!("{{\"key\":\"cl\u{e9}\",\"event\":{EVENT}}}").into_bytes()
}

/// Holds that the put of [`body`] is the next one that reached the sink.
#[track_caller]
fn assert_put(puts: &Receiver<(String, String)>) {
    let put = ("cl\u{e9}".to_owned(), EVENT.to_owned());
    assert_eq!(puts.try_recv(), Ok(put));
}

/// A put of [`body`], with its length announced and in chunks.
fn both() -> [Post; 2] {
    [Post::new(body()), Post::chunks(&[&body()])]
}

/// Sends bytes and closes the connection at once.
fn send_and_go(server: &Embedded, bytes: &[u8]) {
    server.connect().send(bytes);
}

#[track_caller]
fn assert_nothing_put(puts: &Receiver<(String, String)>) {
    assert_eq!(puts.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn a_body_split_at_any_byte_is_put_whole() {
    let (server, puts) = Embedded::capturing();
    let body = body();
    let mut connection = server.connect();
    for at in 1..body.len() {
        let post = Post::chunks(&[&body[..at], &body[at..]]);
        connection.ask(&post).assert_created();
        assert_put(&puts);
        // The same split once more, where the second half comes in a packet of its own.
        let post = Post::new(body.clone());
        connection.send(post.head()).send(&body[..at]);
        connection.send(&body[at..]);
        connection.answer().assert_created();
        assert_put(&puts);
    }
}

#[test]
fn a_body_in_chunks_of_one_byte_is_put_whole() {
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
        // Others may see the end of such a body elsewhere: see `trailers`.
        assert_eq!(connection.rest(), b"");
    }
}

#[test]
fn the_headers_of_the_original_client_are_enough() {
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
    // The sink answers with the key, which tells one answer from another.
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
fn a_client_that_expects_100_is_told_to_go_on() {
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
    // HTTP/1.0 does not know interim answers.
    let old = Post::new(body()).http10().header("Expect: 100-continue");
    connection
        .send(old.bytes())
        .any_answer(false)
        .assert_created();
    assert_put(&puts);
}

#[test]
fn a_client_that_expects_100_is_not_asked_for_a_body_that_is_not_taken() {
    let peer = Peer::builder().arguments(&["--max-body", "1000"]).start();
    let large = Post::new(vec![b' '; 1001]);
    for (post, status) in [(large, 413), (Post::new(body()).method("GET"), 405)] {
        let head = post.header("Expect: 100-continue").head();
        let answer = peer.connect().send(head).any_answer(false);
        answer.assert_problem(status);
    }
}

#[test]
fn a_slow_client_is_waited_for() {
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
fn a_body_that_stalls_is_408_and_ends_the_connection() {
    let peer = Peer::builder().arguments(&["--body-timeout", "1"]).start();
    let [sized, chunks] = both();
    let (sized_bytes, chunks_bytes) = (sized.bytes(), chunks.bytes());
    let stalls = [
        sized.head(),
        sized_bytes[..sized_bytes.len() - 1].to_vec(),
        chunks.head(),
        // All but the last chunk, which says that this was the body.
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
fn a_body_that_trickles_for_too_long_is_408() {
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
fn a_client_that_ends_its_side_after_the_request_is_answered() {
    let peer = Peer::start();
    for post in both().into_iter().chain([Post::new(body()).http10()]) {
        let mut connection = peer.connect();
        connection.send(post.bytes()).finish();
        connection.answer().assert_created();
        assert_eq!(connection.rest(), b"");
    }
    let mut pipelined = peer.connect();
    let requests = [Post::put("a", "1").bytes(), Post::put("b", "1").bytes()];
    pipelined.send(requests.concat()).finish();
    pipelined.answer().assert_created();
    pipelined.answer().assert_created();
}

#[test]
fn a_client_that_ends_its_side_is_answered_by_a_sink_that_takes_long() {
    let gate = Gate::new();
    let mut connection = gate.server.connect();
    connection.send(Post::new(body()).bytes()).finish();
    gate.wait_for_put();
    assert!(connection.is_quiet_for(PAUSE), "the connection ended");
    gate.go_on.notify_one();
    connection.answer().assert_created();
}

/// Requests that a client breaks off: a body that is complete JSON, but not complete HTTP, too.
fn broken_off() -> Vec<Vec<u8>> {
    let (sized, chunks) = (Post::new(body()).bytes(), Post::chunks(&[&body()]).bytes());
    let too_long = Post::new([body(), b" ".to_vec()].concat()).bytes();
    vec![
        sized[..10].to_vec(),
        Post::new(body()).head(),
        sized[..sized.len() - 1].to_vec(),
        too_long[..too_long.len() - 1].to_vec(),
        chunks[..chunks.len() - 5].to_vec(),
        chunks[..chunks.len() - 2].to_vec(),
        chunks[..chunks.len() - 10].to_vec(),
    ]
}

#[test]
fn a_request_that_is_cut_off_is_never_put() {
    let (server, puts) = Embedded::capturing();
    for request in broken_off() {
        let mut connection = server.connect();
        let rest = connection.send(&request).finish().rest();
        let (sent, rest) = (request.escape_ascii(), rest.escape_ascii().to_string());
        assert!(!rest.contains(" 201 "), "{sent}: {rest}");
        assert_nothing_put(&puts);
    }
}

#[test]
fn a_request_whose_connection_is_lost_is_never_put() {
    let (server, puts) = Embedded::capturing();
    for request in broken_off() {
        send_and_go(&server, &request);
        // Here an answer comes that nobody reads, which resets the connection.
        send_and_go(&server, &[Post::new("{").bytes(), request].concat());
    }
    server.put("sentinel", "1").assert_created();
    // Everything in flight has ended after this.
    server.close();
    assert_eq!(puts.try_recv(), Ok(("sentinel".to_owned(), "1".to_owned())));
    assert_nothing_put(&puts);
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

#[test]
fn a_client_that_sends_all_of_a_large_body_reads_the_answer() {
    let peer = Peer::builder().arguments(&["--max-body", "1000"]).start();
    let large = vec![b' '; LARGE_BODY_BYTES];
    let parts: Vec<&[u8]> = large.chunks(65_536).collect();
    for post in [Post::new(large.clone()), Post::chunks(&parts)] {
        let detail = peer.send(&post).detail(413);
        assert!(detail.contains("1000"), "{detail}");
        peer.send(&post.method("PUT")).assert_problem(405);
    }
    peer.send(&Post::new(large).http10()).assert_problem(413);
}

#[test]
fn a_client_that_expects_100_and_sends_all_the_same_reads_the_answer() {
    let peer = Peer::builder().arguments(&["--max-body", "1000"]).start();
    let large = Post::new(vec![b' '; LARGE_BODY_BYTES]).header("Expect: 100-continue");
    peer.send(&large).assert_problem(413);
    peer.send(&large.method("PUT")).assert_problem(405);
}

#[test]
fn a_refused_body_that_is_still_being_sent_does_not_delay_the_answer() {
    let peer = Peer::builder().arguments(&["--max-body", "1000"]).start();
    let large = vec![b' '; LARGE_BODY_BYTES];
    let (sized, chunks) = (Post::new(large.clone()), Post::chunks(&[&large]));
    let begun = |post: &Post, bytes: usize, status| {
        let request = &post.bytes()[..post.head().len() + bytes];
        peer.connect().send(request).answer().assert_problem(status);
    };
    begun(&sized, 0, 413);
    begun(&sized, 10, 413);
    begun(&chunks, 2000, 413);
    begun(&sized.method("GET"), 10, 405);
}

#[test]
fn a_connection_goes_on_after_a_small_body_that_was_not_read() {
    let (server, puts) = Embedded::capturing();
    let mut connection = server.connect();
    let [sized, _] = both();
    for _ in 0..2 {
        let unread = sized.clone().method("DELETE");
        connection.ask(&unread).assert_problem(405);
        assert_nothing_put(&puts);
        connection.ask(&sized).assert_created();
        assert_put(&puts);
    }
}

/// A server whose sink takes a put only when the test lets it.
struct Gate {
    server: Embedded,
    entered: Receiver<()>,
    stored: Receiver<(String, String)>,
    go_on: Arc<Notify>,
}

impl Gate {
    fn new() -> Self {
        let (enter, entered) = mpsc::channel();
        let (store, stored) = mpsc::channel();
        let go_on = Arc::new(Notify::new());
        let gate = Arc::clone(&go_on);
        let server = Embedded::start(PeerServer::builder().on_put(move |key, event| {
            let (enter, store, gate) = (enter.clone(), store.clone(), Arc::clone(&gate));
            async move {
                if key != "passes" {
                    enter.send(()).expect("the test waits");
                    gate.notified().await;
                    store.send((key, event)).expect("the test waits");
                }
                Ok(())
            }
        }));
        Self {
            server,
            entered,
            stored,
            go_on,
        }
    }

    fn wait_for_put(&self) {
        let entered = self.entered.recv_timeout(DEADLINE);
        entered.expect("reaches the sink");
    }

    /// Holds that the put in the sink completes, though its client has gone.
    fn assert_completes(&self) {
        // By now the server has seen that the client has gone: it has read from others since.
        for _ in 0..20 {
            self.server.put("passes", "1").assert_created();
        }
        self.go_on.notify_one();
        let put = self.stored.recv_timeout(DEADLINE).expect("completes");
        assert_eq!(put, ("cl\u{e9}".to_owned(), EVENT.to_owned()));
    }
}

#[test]
fn a_put_whose_client_has_gone_is_completed() {
    let gate = Gate::new();
    for post in both() {
        let mut connection = gate.server.connect();
        connection.send(post.bytes());
        gate.wait_for_put();
        drop(connection);
        gate.assert_completes();
    }
}

#[test]
fn a_put_whose_connection_was_reset_is_completed() {
    let gate = Gate::new();
    let mut connection = gate.server.connect();
    // An answer that was not read when the client goes makes its system reset the connection.
    connection.send([Post::put("passes", "1").bytes(), Post::new(body()).bytes()].concat());
    gate.wait_for_put();
    drop(connection);
    gate.assert_completes();
}

#[test]
fn a_client_that_goes_right_after_its_request_has_put() {
    let (server, puts) = Embedded::capturing();
    for number in 0..50 {
        let put = Post::put(&format!("key{number}"), "1");
        send_and_go(&server, &put.bytes());
    }
    let mut missing: HashSet<String> = (0..50).map(|number| format!("key{number}")).collect();
    while !missing.is_empty() {
        let (key, _) = puts.recv_timeout(DEADLINE).expect("is put");
        assert!(missing.remove(&key), "{key} is put twice");
    }
}
