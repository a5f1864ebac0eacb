//! The sink `forward` with a peer that can't be reached, is silent, or responds incorrectly.
//!
//! Valid responses are in `forward_sink`.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

use crate::forward_sink::{large_event, to};
use crate::support::{Peer, ScriptedPeer};

/// The default time-out for a peer.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A time-out short enough for a test.
const SHORT: &str = "ALLDATA_PEER_FORWARD_TIMEOUT_MS=400";

#[test]
fn refused_connection_is_unavailable() {
    let nobody = Peer::nobody();
    let peer = to(&nobody.url()).start();
    let answer = peer.put("key1", "1");
    answer.assert_is(503, "Service Unavailable", "no", true);
    peer.log_line(&format!("{}: it refused the connection", nobody.url()));
}

/// A listener with a full queue, which leaves connections waiting: nothing is sent to it.
#[test]
fn connect_timeout_is_unavailable() {
    let full = FullListener::start();
    let peer = to(&format!("http://{}/", full.address)).env(SHORT).start();
    let start = Instant::now();
    let answer = peer.put("key1", "1");
    answer.assert_is(503, "Service Unavailable", "no", true);
    assert!(
        start.elapsed() < DEFAULT_TIMEOUT / 2,
        "the time-out is not kept"
    );
}

#[test]
fn connection_closed_after_request_is_unknown() {
    let store = ScriptedPeer::start(|exchange| exchange.read_body().close());
    let peer = to(&store.url()).start();
    peer.put("key1", "1")
        .assert_is(504, "Gateway Timeout", "unknown", true);
    peer.log_line(&format!("{}: ", store.url()));
    store.request();
    assert_eq!(
        store.more_requests(),
        0,
        "it is not for the sink to send again"
    );
}

#[test]
fn connection_closed_is_unknown_once_request_was_sent() {
    let store = ScriptedPeer::start(|exchange| match exchange.header("content-length") {
        Some(length) if length.len() > 6 => exchange.close(),
        _ => exchange.read_body().send("HTTP/1.1 20").close(),
    });
    let peer = to(&store.url()).start();
    // No peer puts a request that it did not receive completely.
    peer.put("key1", &large_event())
        .assert_is(503, "Service Unavailable", "no", true);
    peer.put("key1", "1")
        .assert_is(504, "Gateway Timeout", "unknown", true);
    assert_eq!(store.more_requests(), 2);
}

#[test]
fn response_timeout_is_unknown() {
    let store = ScriptedPeer::start(|exchange| {
        let rest = exchange.read_body().rest();
        assert_eq!(rest, b"", "nothing is sent again");
    });
    let peer = to(&store.url()).env(SHORT).start();
    let start = Instant::now();
    peer.put("key1", "1")
        .assert_is(504, "Gateway Timeout", "unknown", true);
    assert!(
        start.elapsed() < DEFAULT_TIMEOUT,
        "the time-out is not kept"
    );
    assert!(start.elapsed() >= Duration::from_millis(400));
    peer.log_line(&format!("{}: ", store.url()));
}

#[test]
fn unreading_peer_has_the_same_timeout() {
    let store = ScriptedPeer::start(|_| ());
    let peer = to(&store.url()).env(SHORT).start();
    let start = Instant::now();
    let event = large_event();
    let answer = peer.put("key1", &event);
    answer.assert_is(503, "Service Unavailable", "no", true);
    let elapsed = start.elapsed();
    assert!(elapsed < DEFAULT_TIMEOUT, "the time-out is not kept");
    // After the time-out no more is sent.
    let rest = store.request().rest();
    assert!(rest.len() < event.len());
}

#[test]
fn early_response_counts() {
    let store = ScriptedPeer::start(|exchange| {
        let problem = "{\"detail\":\"Too large for me.\"}";
        match exchange.head.contains("/413") {
            true => exchange.answer("413 Content Too Large", "", problem),
            false => exchange.answer("409 Conflict", "", problem),
        }
    });
    for (path, status) in [("409", 409), ("413", 422)] {
        let peer = to(&format!("http://{}/{path}", store.address())).start();
        let start = Instant::now();
        let detail = peer.put("key1", &large_event()).detail(status);
        assert_eq!(detail == "Too large for me.", status == 422, "{detail}");
        assert!(start.elapsed() < DEFAULT_TIMEOUT, "the body was waited for");
        // Kept until here: the body was not read.
        store.request();
        peer.put("key2", "1").assert_problem(status);
    }
}

#[test]
fn slowly_reading_peer_gets_complete_body() {
    let store = ScriptedPeer::start(|exchange| {
        exchange.read_body_slowly().answer("201 Created", "", "");
    });
    let peer = to(&store.url()).start();
    let event = large_event();
    peer.put("key1", &event).assert_created();
    let body = format!("{{\"key\":\"key1\",\"event\":{event}}}");
    assert!(store.request().body == body.as_bytes());
}

#[test]
fn malformed_or_endless_problem_is_tolerated() {
    let store = ScriptedPeer::start(|exchange| match &*exchange.read_body().key() {
        "text" => exchange.answer("422 A", "", "<html>"),
        "endless" => {
            let head = "HTTP/1.1 422 A\r\nContent-Length: 100000000\r\n\r\n";
            exchange.send(head).send(&"x".repeat(100_000));
        }
        _ => exchange.answer("503 A", "Retry-After: soon\r\n", ""),
    });
    let peer = to(&store.url()).env(SHORT).start();
    for key in ["text", "endless"] {
        let detail = peer.put(key, "1").detail(422);
        assert_eq!(detail, "The peer answered 422.", "{key}");
        store.request();
    }
    assert_eq!(peer.put("soon", "1").header("retry-after"), Some("1"));
}

/// A listener that completes no further connection.
struct FullListener {
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
    _listener: tokio::net::TcpListener,
    _waiting: Vec<TcpStream>,
}

impl FullListener {
    fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("starts a runtime");
        let guard = runtime.enter();
        let socket = TcpSocket::new_v4().expect("is a socket");
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(any_port).expect("binds");
        let listener = socket.listen(0).expect("listens");
        drop(guard);
        let address = listener.local_addr().expect("is bound");
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
        let waiting = std::iter::from_fn(connect).take(100).collect();
        Self {
            address,
            _runtime: runtime,
            _listener: listener,
            _waiting: waiting,
        }
    }
}
