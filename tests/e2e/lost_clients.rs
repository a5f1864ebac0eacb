//! Clients that go away: a complete put is stored, also if nobody waits for its response, and an incomplete one
//! never is.
//!
//! Clients that go away while a server closes are in `shutdown`.

use std::collections::HashSet;
use std::time::Duration;

use alldata_peer_server_http::PeerServer;

use crate::connections::{EVENT, assert_nothing_put, body, both};
use crate::support::{DEADLINE, Embedded, Gate, Peer, Post};

/// The time for which a connection must stay open.
const PAUSE: Duration = Duration::from_millis(5);

/// Sends bytes and closes the connection at once.
fn send_and_go(server: &Embedded, bytes: &[u8]) {
    server.connect().send(bytes);
}

#[test]
fn half_closed_client_is_answered() {
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
fn half_closed_client_is_answered_after_slow_sink() {
    let (server, gate) = gated();
    let mut connection = server.connect();
    connection.send(Post::new(body()).bytes()).finish();
    gate.wait_for_put();
    assert!(connection.is_quiet_for(PAUSE), "the connection ended");
    gate.open();
    connection.answer().assert_created();
}

/// Requests that a client aborts, also with a body that is complete JSON, but not complete HTTP.
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
fn aborted_request_is_never_put() {
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
fn request_of_lost_connection_is_never_put() {
    let (server, puts) = Embedded::capturing();
    for request in broken_off() {
        send_and_go(&server, &request);
        // A response arrives that nobody reads, so that the connection is reset.
        send_and_go(&server, &[Post::new("{").bytes(), request].concat());
    }
    server.put("sentinel", "1").assert_created();
    // All requests in flight have ended after this.
    server.close();
    assert_eq!(puts.try_recv(), Ok(("sentinel".to_owned(), "1".to_owned())));
    assert_nothing_put(&puts);
}

/// A server whose sink completes puts of other keys than `passes` only when the test says so.
fn gated() -> (Embedded, Gate) {
    let (builder, gate) = Gate::before(PeerServer::builder(), |key, _| key != "passes");
    (Embedded::start(builder), gate)
}

/// Asserts that the put in the sink completes, although its client has gone.
fn assert_completes(server: &Embedded, gate: &Gate) {
    // By now the server has noticed that the client has gone: it has read from other connections since.
    for _ in 0..20 {
        server.put("passes", "1").assert_created();
    }
    gate.open();
    let mut puts = std::iter::repeat_with(|| gate.wait_for_stored());
    let put = puts.find(|(key, _)| key != "passes");
    assert_eq!(put, Some(("cl\u{e9}".to_owned(), EVENT.to_owned())));
}

#[test]
fn put_of_disconnected_client_completes() {
    let (server, gate) = gated();
    for post in both() {
        let mut connection = server.connect();
        connection.send(post.bytes());
        gate.wait_for_put();
        drop(connection);
        assert_completes(&server, &gate);
    }
}

#[test]
fn put_of_reset_connection_completes() {
    let (server, gate) = gated();
    let mut connection = server.connect();
    // If a client closes with an unread response, its system resets the connection.
    connection.send([Post::put("passes", "1").bytes(), Post::new(body()).bytes()].concat());
    gate.wait_for_put();
    drop(connection);
    assert_completes(&server, &gate);
}

#[test]
fn put_of_client_leaving_after_request_completes() {
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
