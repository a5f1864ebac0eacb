//! The listener for operators: its paths, its methods, and requests that are hostile.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::certificates::Authority;
use crate::support::admin::{Scrape, get, get_with};
use crate::support::{Connection, Peer, Post, run, wait_until};
use crate::tls_client::{TlsClient, tls_peer};

/// A request as bytes, on a connection of its own.
fn ask(peer: &Peer, request: &str) -> (u16, String) {
    let answer = Connection::open(peer.admin()).send(request).answer();
    (answer.status, answer.text())
}

#[test]
fn server_listens_for_operators_only_if_asked() {
    let peer = Peer::start();
    for path in ["/livez", "/readyz", "/metrics", "/"] {
        let post = Post::new("").method("GET").target(path);
        peer.send(&post).assert_problem(405);
    }
}

#[test]
fn paths_of_operators_are_no_puts() {
    let peer = Peer::builder().admin().start();
    let answer = Post::put("key1", "1")
        .host("localhost")
        .target("/_put")
        .send_to(peer.admin());
    assert_eq!(answer.status, 404);
    let other = ask(&peer, "GET /metrics/ HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(other.0, 404);
}

#[test]
fn methods_are_get_and_head() {
    let peer = Peer::builder().admin().start();
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = Post::new("x")
            .host("localhost")
            .target(path)
            .send_to(peer.admin());
        assert_eq!(answer.status, 405, "{path}");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
        let head = format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut connection = Connection::open(peer.admin());
        let answer = connection.send(head).answer_to_head();
        assert_eq!((answer.status, &*answer.body), (200, &b""[..]), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(connection.rest(), b"", "{path}");
    }
}

/// A page of another site could have its name resolve to this machine.
#[test]
fn request_for_another_host_is_refused() {
    let peer = Peer::builder().admin().start();
    for (host, status) in [
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("127.0.0.1", 200),
        ("[::1]:9090", 200),
        ("example.com", 403),
        ("127.0.0.1.example.com", 403),
        ("a b", 403),
        ("", 403),
    ] {
        let request = format!("GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(ask(&peer, &request).0, status, "{host:?}");
    }
}

#[test]
fn address_that_is_not_loopback_needs_authentication() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9090"] {
        let arguments = ["serve", "--sink", "discard:", "--admin-listen", address];
        let failed = run(&arguments);
        let message = failed.assert_failed(2);
        assert!(
            message.contains(address.trim_end_matches(":0")),
            "{message}"
        );
        assert!(message.contains("not a loopback address"), "{message}");
        assert!(message.contains("--token-file"), "{message}");
    }
}

#[test]
fn hostile_requests_end_alone() {
    let peer = Peer::builder().admin().start();
    let long = "x".repeat(64 * 1024);
    for request in [
        "\0\0\0\0\r\n\r\n".to_owned(),
        format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"),
        format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
            "A: b\r\n".repeat(200)
        ),
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"
            .to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ] {
        let mut connection = Connection::open(peer.admin());
        let answer = connection.try_send(&request).rest();
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.get(..12).unwrap_or_default();
        assert!(
            status.is_empty() || status.starts_with("HTTP/1.1 4"),
            "{status}"
        );
    }
    assert_eq!(get(peer.admin(), "/livez").status, 200);
}

/// Any address: operators need what clients need.
#[test]
fn operators_of_other_machines_need_tokens() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let token = "0123456789abcdef0123456789abcdef";
    let file = directory.path().join("tokens");
    fs::write(&file, format!("ops:{token}\n")).expect("writes");
    let file = file.display().to_string();
    let arguments = ["--admin-listen", "0.0.0.0:0", "--token-file", &file];
    let peer = Peer::builder().arguments(&arguments).start();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, peer.admin().port()));
    let password = |text: String| BASE64_STANDARD.encode(text);
    for (authorization, status) in [
        (String::new(), 401),
        ("Authorization: Bearer wrong\r\n".to_owned(), 401),
        (format!("Authorization: Bearer {token}\r\n"), 200),
        (
            format!(
                "Authorization: Basic {}\r\n",
                password(format!("any:{token}"))
            ),
            200,
        ),
        (
            format!(
                "Authorization: Basic {}\r\n",
                password("any:wrong".to_owned())
            ),
            401,
        ),
        ("Authorization: Basic !\r\n".to_owned(), 401),
    ] {
        for path in ["/", "/livez", "/metrics", "/status.json"] {
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: peer.example\r\n{authorization}\r\n");
            let answer = Connection::open(address).send(request).rest();
            let answer = String::from_utf8_lossy(&answer).into_owned();
            let expected = format!("HTTP/1.1 {status} ");
            assert!(
                answer.starts_with(&expected),
                "{authorization} {path}: {answer}"
            );
            assert_eq!(
                status == 401,
                answer.contains("www-authenticate: Bearer"),
                "{answer}"
            );
        }
    }
}

/// Scrapers that do not read hold a connection each, up to the limit, and no put waits for them.
#[test]
fn slow_scrapers_delay_no_put() {
    let peer = Peer::builder().admin().start();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut slow = Vec::new();
    let mut silent: Vec<TcpStream> = Vec::new();
    for _ in 0..100 {
        slow.push(Connection::open(peer.admin()));
        silent.push(TcpStream::connect(peer.admin()).expect("connects"));
    }
    for connection in &mut slow {
        connection.try_send(request);
    }
    for number in 0..10 {
        peer.put(&format!("key{number}"), "1").assert_created();
    }
    drop((slow, silent));
    wait_until("operators are served again", || {
        let connection = Connection::try_open(peer.admin());
        connection.is_some_and(|mut connection| {
            let answer = connection.try_send(request).rest();
            answer.starts_with(b"HTTP/1.1 200")
        })
    });
}

#[test]
fn format_of_metrics_is_negotiated() {
    let peer = Peer::builder().admin().start();
    let plain = get(peer.admin(), "/metrics");
    assert_eq!(
        plain.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let open = get_with(peer.admin(), "/metrics", accept);
    assert_eq!(
        open.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(open.text().ends_with("# EOF\n"), "{}", open.text());
}

#[test]
fn operators_of_other_machines_may_use_client_certificates() {
    let authority = Authority::new("authority");
    let client = authority.issue("operator");
    let ca = authority.path();
    let arguments = ["--admin-listen", "0.0.0.0:0", "--tls-client-ca", &ca];
    let peer = tls_peer(&authority).arguments(&arguments).start();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, peer.admin().port()));
    let request = "GET /metrics HTTP/1.1\r\nHost: peer.example\r\n\r\n";
    let with = TlsClient::with_certificate(&authority, &client);
    let answer = with.connect(address).send(request).answer();
    assert_eq!(answer.status, 200);
    let scrape = Scrape::parse(&answer.text());
    assert!(scrape.value("alldata_peer_tls_certificate_expiry_time_seconds") > 1.7e9);
    assert_eq!(
        scrape.value("alldata_peer_tls_handshakes_failed_total"),
        0.0
    );
    let plain = Connection::open(address).try_send(request).rest();
    assert!(!plain.starts_with(b"HTTP/1.1 200"));
    // One that fails on the listener for puts.
    Connection::open(peer.address())
        .try_send([22, 3, 1, 0, 1, 0])
        .rest();
    wait_until("the failure is counted", || {
        let answer = with.connect(address).send(request).answer();
        let scrape = Scrape::parse(&answer.text());
        scrape.value("alldata_peer_tls_handshakes_failed_total") == 1.0
    });
}
