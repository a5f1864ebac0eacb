//! TLS of the listener: versions, protocols, the handshake, and requests over it.

use rustix::process::Signal;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::certificates::Authority;
use crate::request_table::{self, Platform};
use crate::support::{Connection, Peer, Post};
use crate::tls_client::{TlsClient, tls_peer};

/// Many more than there are threads of the server.
const HALF_HANDSHAKES: usize = 300;

/// A `ClientHello` of TLS 1.1, with one cipher suite and one signature algorithm.
fn tls_1_1_client_hello() -> Vec<u8> {
    // After the version: 32 random bytes, no session, AES-128-CBC-SHA, no compression.
    let version = [3, 2];
    let suite = [0, 0, 2, 0, 0x2f, 1, 0];
    // The extension `signature_algorithms`: ECDSA with P-256 and SHA-256.
    let extensions = [0, 8, 0, 13, 0, 4, 0, 2, 4, 3];
    let message = [&version[..], &[7; 32], &suite, &extensions].concat();
    let length = u8::try_from(message.len()).expect("is short");
    // A record of type 22 with a message of type 1.
    let head = [22, 3, 1, 0, length + 4, 1, 0, 0, length];
    [&head[..], &message].concat()
}

/// A peer over TLS, for the table of requests.
struct TlsPlatform {
    peer: Peer,
    client: TlsClient,
}

impl Platform for TlsPlatform {
    fn connect(&self) -> Connection {
        self.client.connect(self.peer.address())
    }

    fn stored(&self, key: &str) -> Option<String> {
        let stored = crate::support::run(&["get", key, "--store", &self.peer.store()]);
        let event = stored.stdout.strip_suffix('\n').map(str::to_owned);
        event.filter(|_| stored.code == Some(0))
    }
}

#[test]
fn request_table_holds_over_tls() {
    let authority = Authority::new("authority");
    let peer = tls_peer(&authority).start();
    let client = TlsClient::new(&authority);
    request_table::hold(&TlsPlatform { peer, client });
}

#[test]
fn tls_1_2_and_1_3_are_served_with_http_1_1() {
    let authority = Authority::new("authority");
    let peer = tls_peer(&authority).start();
    for version in [&TLS12, &TLS13] {
        let client = TlsClient::of_version(&authority, version);
        let stream = client.stream(peer.address()).expect("shakes hands");
        let connection = stream.connection();
        assert_eq!(connection.protocol_version(), Some(version.version));
        assert_eq!(connection.alpn_protocol(), Some(&b"http/1.1"[..]));
        let mut connection = Connection::on(stream);
        let put = Post::put("key1", "1").header("Connection: close");
        connection.ask(&put).assert_created();
        // An error if the server ends the connection without `close_notify`.
        assert_eq!(connection.rest(), b"");
    }
}

#[test]
fn tls_1_1_is_refused() {
    let authority = Authority::new("authority");
    let peer = tls_peer(&authority).start();
    let mut client = peer.connect();
    // The alert `protocol_version` (70).
    let alert = client.send(tls_1_1_client_hello()).rest();
    assert_eq!((alert[0], &alert[5..]), (21, &[2, 70][..]), "{alert:?}");
    peer.log_line("a TLS handshake failed");
}

#[test]
fn other_authority_is_not_trusted_by_client() {
    let authority = Authority::new("authority");
    let peer = tls_peer(&authority).start();
    let error = TlsClient::new(&Authority::new("other")).refusal(peer.address());
    assert!(error.contains("UnknownIssuer"), "{error}");
    let line = peer.log_line("a TLS handshake failed");
    assert!(
        line.contains("INFO") && line.contains("UnknownCA"),
        "{line}"
    );
}

#[test]
fn plain_http_gets_400_and_log_line() {
    let authority = Authority::new("authority");
    let peer = tls_peer(&authority).start();
    let mut client = peer.connect();
    let answer = client.ask(&Post::put("key1", "1"));
    let detail = answer.assert_is(400, "Bad Request", "no", false);
    assert!(
        detail.contains("TLS") && detail.contains("https"),
        "{detail}"
    );
    assert_eq!(answer.header("connection"), Some("close"));
    client.finish();
    assert_eq!(client.rest(), b"");
    assert!(peer.log_line("refused").contains("This port speaks TLS"));
    let head = Post::put("key1", "1").method("HEAD").bytes();
    assert_eq!(peer.connect().send(head).answer_to_head().status, 400);
    assert_eq!(peer.stored(), "");
}

#[test]
fn slow_handshake_is_closed_and_logged() {
    let authority = Authority::new("authority");
    let peer = tls_peer(&authority)
        .arguments(&["--header-read-timeout", "1"])
        .start();
    // The start of a `ClientHello`, and nothing at all.
    let mut client = peer.connect();
    assert_eq!(client.send(&tls_1_1_client_hello()[..20]).rest(), b"");
    let line = peer.log_line("a TLS handshake failed");
    assert!(line.contains("--header-read-timeout"), "{line}");
    assert_eq!(peer.connect().rest(), b"");
}

#[test]
fn silent_connection_is_closed_for_handshake() {
    let authority = Authority::new("authority");
    let peer = tls_peer(&authority)
        .arguments(&["--max-connections", "2"])
        .start();
    let mut silent = [peer.connect(), peer.connect()];
    let client = TlsClient::new(&authority);
    let mut first = client.connect(peer.address());
    first.ask(&Post::put("key1", "1")).assert_created();
    let mut second = client.connect(peer.address());
    second.ask(&Post::put("key2", "2")).assert_created();
    assert_eq!(silent.each_mut().map(Connection::rest), [b"", b""]);
}

#[test]
fn half_handshakes_do_not_delay_others() {
    let authority = Authority::new("authority");
    let peer = tls_peer(&authority).start();
    let hello = tls_1_1_client_hello();
    let half: Vec<Connection> = (0..HALF_HANDSHAKES)
        .map(|number| {
            let mut connection = peer.connect();
            connection.send(&hello[..1 + number % (hello.len() - 1)]);
            connection
        })
        .collect();
    let client = TlsClient::new(&authority);
    let mut kept = client.connect(peer.address());
    for number in 0..20 {
        let put = Post::put(&format!("key{number}"), "1");
        kept.ask(&put).assert_created();
        client.connect(peer.address()).ask(&put).assert_created();
    }
    drop(half);
    kept.ask(&Post::put("after", "1")).assert_created();
}

#[test]
fn idle_connection_is_closed_with_close_notify() {
    let authority = Authority::new("authority");
    let peer = tls_peer(&authority)
        .arguments(&["--idle-timeout", "1"])
        .start();
    let mut connection = TlsClient::new(&authority).connect(peer.address());
    connection.ask(&Post::put("key1", "1")).assert_created();
    assert_eq!(connection.rest(), b"");
}

#[test]
fn half_closed_connection_gets_its_responses() {
    let authority = Authority::new("authority");
    let peer = tls_peer(&authority).start();
    let mut connection = TlsClient::new(&authority).connect(peer.address());
    let puts = [Post::put("key1", "1"), Post::put("key2", "2")];
    connection
        .send(puts.map(|put| put.bytes()).concat())
        .finish();
    for _ in 0..2 {
        connection.answer().assert_created();
    }
    assert_eq!(connection.rest(), b"");
}

#[test]
fn refused_body_is_lingered_over() {
    let authority = Authority::new("authority");
    let peer = tls_peer(&authority)
        .arguments(&["--max-body", "1000"])
        .start();
    let mut connection = TlsClient::new(&authority).connect(peer.address());
    let large = Post::new("x".repeat(1_000_000)).header("Expect: 100-continue");
    connection
        .try_send(large.bytes())
        .answer()
        .assert_problem(413);
    assert_eq!(connection.rest(), b"");
}

#[test]
fn shutdown_drains_requests_and_ends_silent_handshakes() {
    let authority = Authority::new("authority");
    let mut peer = tls_peer(&authority).start();
    let mut silent = peer.connect();
    let mut half = peer.connect();
    half.send(&tls_1_1_client_hello()[..20]);
    let mut connection = TlsClient::new(&authority).connect(peer.address());
    let put = Post::put("key1", "[1,2,3]");
    connection.send(put.head());
    peer.signal(Signal::TERM);
    peer.log_line("closing");
    let body = put.bytes().split_off(put.head().len());
    let answer = connection.send(body).answer();
    answer.assert_created();
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(
        (connection.rest(), silent.rest(), half.rest()),
        (vec![], vec![], vec![])
    );
    assert_eq!(peer.wait().code(), Some(0));
}
