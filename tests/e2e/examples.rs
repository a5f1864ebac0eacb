//! The programs of `host/examples/`: each is started, stores a put, and ends by SIGINT.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::support::{Connection, DEADLINE, Example, Post, run};

/// A put with which the client ends its connection.
fn last_put(key: &str, event: &str) -> Vec<u8> {
    Post::put(key, event).header("Connection: close").bytes()
}

#[track_caller]
fn assert_created(response: &[u8]) {
    let response = String::from_utf8_lossy(response);
    assert!(response.starts_with("HTTP/1.1 201 "), "{response}");
}

#[test]
fn custom_sink_keeps_first_event() {
    let example = Example::start::<&str>("custom_sink", &[]);
    let address = example.line_after("listening on http://");
    let mut client = Connection::open(address.parse().expect("is an address"));
    for event in ["{\"a\":1,\"b\":2}", "{\"b\":2.0,\"a\":1}"] {
        client.ask(&Post::put("key1", event)).assert_created();
    }
    client.ask(&Post::put("key1", "3")).assert_problem(409);
    client.ask(&Post::put("key2", "3")).assert_created();
    assert!(example.interrupt().success());
    assert_eq!(client.rest(), b"");
}

#[test]
fn unix_socket_replaces_stale_file_and_removes_its_own() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = directory.path().join("peer.sock");
    let start = || {
        let example = Example::start("unix_socket", &[&path]);
        example.line_after("listening on ");
        example
    };
    start().end(Signal::KILL);
    assert!(path.exists());
    let example = start();
    let mode = path.metadata().expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut client = UnixStream::connect(&path).expect("connects");
    client.set_read_timeout(Some(DEADLINE)).expect("is set");
    let put = last_put("key1", "{\"a\":1}");
    client.write_all(&put).expect("sends");
    let mut response = Vec::new();
    client.read_to_end(&mut response).expect("reads");
    assert_created(&response);
    assert_eq!(example.line(), "key1 {\"a\":1}");

    assert!(example.interrupt().success());
    assert!(!path.exists());
}

#[test]
fn unix_socket_in_use_and_other_file_stay() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = directory.path().join("peer.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("binds");
    let file = directory.path().join("file");
    std::fs::write(&file, "kept").expect("writes");
    for path in [&path, &file] {
        let example = Example::start("unix_socket", &[path]);
        example.error_line("AddrInUse");
        assert_eq!(example.wait().code(), Some(1));
        assert!(path.exists());
    }
    drop(listener);
}

/// Writes a certificate for `localhost` and its key as PEM files, and returns it for a client.
fn write_certificate(certificate: &Path, key: &Path) -> CertificateDer<'static> {
    let names = vec!["localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("makes a certificate");
    std::fs::write(certificate, made.cert.pem()).expect("writes");
    std::fs::write(key, made.signing_key.serialize_pem()).expect("writes");
    made.cert.der().clone()
}

/// Puts over TLS, and returns the bytes that the server sends until it closes the connection.
async fn put_over_tls(address: SocketAddr, root: CertificateDer<'static>, put: &[u8]) -> Vec<u8> {
    let mut roots = RootCertStore::empty();
    roots.add(root).expect("is a certificate");
    let config = ClientConfig::builder().with_root_certificates(roots);
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = tokio::net::TcpStream::connect(address).await;
    let name = ServerName::try_from("localhost").expect("is a name");
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream.expect("connects")).await;
    let mut stream = stream.expect("shakes hands");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    stream.write_all(put).await.expect("sends");
    let mut response = Vec::new();
    // An error if the server closes the connection without `close_notify`.
    stream.read_to_end(&mut response).await.expect("reads");
    response
}

#[test]
fn tls_serves_put_after_failed_handshake() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let files = ["certificate.pem", "key.pem"].map(|name| directory.path().join(name));
    let root = write_certificate(&files[0], &files[1]);
    let example = Example::start("tls", &files);
    let address = example.line_after("listening on https://");
    let address: SocketAddr = address.parse().expect("is an address");

    let mut clear = TcpStream::connect_timeout(&address, DEADLINE).expect("connects");
    clear.set_read_timeout(Some(DEADLINE)).expect("is set");
    clear.write_all(&last_put("key1", "1")).expect("sends");
    let mut answer = Vec::new();
    // The connection may be reset.
    let _ = clear.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"));
    example.error_line("a TLS handshake failed");

    let runtime = tokio::runtime::Runtime::new().expect("starts a runtime");
    let put = last_put("key2", "2");
    let put = put_over_tls(address, root, &put);
    let response = runtime.block_on(async { timeout(DEADLINE, put).await });
    assert_created(&response.expect("is in time"));
    assert_eq!(example.line(), "key2 2");
    assert!(example.interrupt().success());
}

#[test]
fn axum_application_and_peer_end_together() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let store = format!("sqlite:{}", directory.path().join("events.db").display());
    let example = Example::start("axum", &[&store]);
    let address = |name: &str| -> SocketAddr {
        let address = example.line_after(&format!("{name} on http://"));
        address.parse().expect("is an address")
    };
    let (peer, application) = (address("peer"), address("application"));

    let health = Post::new("").method("GET").target("/healthz");
    let healthy = health.send_to(application);
    assert_eq!((healthy.status, healthy.text().as_str()), (200, "ok"));
    Post::put("key1", "{\"a\":1}")
        .send_to(peer)
        .assert_created();

    assert!(example.interrupt().success());
    for address in [peer, application] {
        assert!(Connection::try_open(address).is_none());
    }
    let stored = run(&["get", "key1", "--store", &store]);
    assert_eq!(stored.assert_ok(), "{\"a\":1}\n");
}

#[test]
fn axum_route_stores_puts_on_port_of_application() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let store = format!("sqlite:{}", directory.path().join("events.db").display());
    let example = Example::start("axum_route", &[&store]);
    let address = example.line_after("listening on http://");
    let mut client = Connection::open(address.parse().expect("is an address"));
    let health = Post::new("").method("GET").target("/healthz");
    assert_eq!(client.ask(&health).text(), "ok");
    client.ask(&Post::put("key1", "{\"a\":1}")).assert_created();
    assert!(example.interrupt().success());
    assert_eq!(client.rest(), b"");
    let stored = run(&["get", "key1", "--store", &store]);
    assert_eq!(stored.assert_ok(), "{\"a\":1}\n");
}
