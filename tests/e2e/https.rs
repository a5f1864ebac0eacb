//! `https:` for outgoing requests: the sink, the command `put` and the requests of components; and Bearer tokens.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use rustix::process::Signal;

use crate::certificates::Authority;
use crate::forward_sink::to;
use crate::support::{Output, Peer, ScriptedPeer, run, wait_until};
use crate::tls_client::tls_peer;

#[test]
fn sink_puts_over_tls() {
    let authority = Authority::new("authority");
    let behind = tls_peer(&authority).start();
    let peer = Peer::builder().sink(&url(&behind, &authority)).start();
    peer.put("key1", "1").assert_created();
    peer.put("key1", "2").assert_problem(409);
    let output = put("2", &url(&behind, &authority));
    assert_eq!(output.code, Some(1), "{output:?}");
    put("1", &url(&behind, &authority)).assert_ok();
}

#[test]
fn certificate_of_another_authority_is_refused() {
    let authority = Authority::new("authority");
    let behind = tls_peer(&authority).start();
    let other = Authority::new("other");
    let peer = Peer::builder().sink(&url(&behind, &other)).start();
    peer.put("key1", "1").assert_problem(503);
    let line = peer.log_line("no response from the peer");
    assert!(line.contains("UnknownIssuer"), "{line}");
    let output = put("1", &url(&behind, &other));
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("UnknownIssuer"), "{output:?}");
}

#[test]
fn client_certificate_is_presented() {
    let authority = Authority::new("authority");
    let clients = path(&authority.file("ca.pem"));
    let behind = tls_peer(&authority).arguments(&["--tls-client-ca", &clients]);
    let behind = behind.start();
    let issued = authority.issue("client");
    let (certificate, key) = (path(&issued.certificate), path(&issued.key));
    let url = url(&behind, &authority);
    put("1", &format!("{url}&cert={certificate}&key={key}")).assert_ok();
    let output = put("1", &url);
    assert_eq!(output.code, Some(1), "{output:?}");
    let reasons = ["CertificateRequired", "no response"];
    assert!(
        reasons.iter().any(|reason| output.stderr.contains(reason)),
        "{output:?}"
    );
}

#[test]
fn renewed_files_of_sink_are_used_without_restart() {
    let authority = Authority::new("authority");
    let clients = [
        "--tls-client-ca",
        &authority.path(),
        "--tls-client-name",
        "new",
    ];
    let behind = tls_peer(&authority).arguments(&clients).start();
    let directory = tempfile::tempdir().expect("makes a directory");
    let file = |name: &str| directory.path().join(name);
    let (cert, key) = (file("client.pem"), file("client.key"));
    let renew = |name: &str| {
        let issued = authority.issue(name);
        fs::copy(issued.certificate, &cert).expect("copies");
        fs::copy(issued.key, &key).expect("copies");
    };
    renew("old");
    let url = url(&behind, &authority);
    let sink = format!("{url}&cert={}&key={}", path(&cert), path(&key));
    let peer = Peer::builder().sink(&sink).start();
    // In TLS 1.3 a put may be sent before the other side refuses the certificate, and a reset may overtake the alert.
    let await_refusal = |key: &str| {
        wait_until("the certificate is refused", || {
            let put = peer.put(key, "1");
            assert!([503, 504].contains(&put.status), "{}", put.text());
            put.status == 503
        });
    };
    await_refusal("key1");
    renew("new");
    peer.log_line("TLS files of the sink read again");
    peer.put("key1", "1").assert_created();
    fs::write(&cert, "nonsense").expect("writes");
    let line = peer.log_line("TLS files of the sink not read again");
    assert!(line.contains("client certificate (cert)"), "{line}");
    peer.put("key2", "2").assert_created();
    renew("old");
    peer.signal(Signal::HUP);
    peer.log_line("TLS files of the sink read again");
    await_refusal("key3");
}

#[test]
fn renewed_authority_of_sink_is_used_without_restart() {
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let behind = tls_peer(&authority).start();
    let directory = tempfile::tempdir().expect("makes a directory");
    let ca = directory.path().join("ca.pem");
    fs::copy(other.path(), &ca).expect("copies");
    let port = behind.address().port();
    let sink = format!("https://localhost:{port}/?ca={}", path(&ca));
    let peer = Peer::builder().sink(&sink).start();
    peer.put("key1", "1").assert_problem(503);
    fs::copy(authority.path(), &ca).expect("copies");
    peer.log_line("TLS files of the sink read again");
    peer.put("key1", "1").assert_created();
}

#[test]
fn handshake_that_hangs_is_no_connection() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
    let address = silent.local_addr().expect("is bound");
    let authority = Authority::new("authority");
    let ca = path(&authority.file("ca.pem"));
    let sink = format!("https://{address}/?ca={ca}");
    let peer = Peer::builder().sink(&sink).start();
    peer.put("key1", "1").assert_problem(503);
    let line = peer.log_line("no response from the peer");
    assert!(line.contains("no TLS connection within 5s"), "{line}");
}

#[test]
fn unusable_file_is_named() {
    let authority = Authority::new("authority");
    let (missing, ca) = (
        path(&authority.file("none")),
        path(&authority.file("ca.pem")),
    );
    for (parameters, reason) in [
        (format!("ca={missing}"), "certificates of authorities (ca)"),
        (
            format!("cert={ca}&key={ca}"),
            "key of the client certificate (key): it has no private key",
        ),
        (format!("token-file={missing}"), "cannot read a token from"),
    ] {
        let output = put("1", &format!("https://127.0.0.1:1/?{parameters}"));
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.stderr.contains(reason), "{output:?}");
    }
}

#[test]
fn token_is_sent_and_read_again_when_it_is_refused() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let tokens = directory.path().join("tokens");
    let token = directory.path().join("token");
    fs::write(&tokens, "node:0123456789abcdef0123456789abcdef\n").expect("is written");
    fs::write(&token, "00000000000000000000000000000000\n").expect("is written");
    let behind = Peer::builder().arguments(&["--token-file", &path(&tokens)]);
    let behind = behind.start();
    let url = format!("http://{}/?token-file={}", behind.address(), path(&token));
    let peer = Peer::builder().sink(&url).start();
    peer.put("key1", "1").assert_problem(503);
    peer.log_line("the credentials are refused with 401");
    fs::copy(&tokens, &token).expect("is written");
    wait_until("the token is read again", || {
        peer.put("key1", "1").status == 201
    });
}

#[test]
fn credentials_without_tls_are_warned_of_for_other_machines() {
    let warning = "credentials are sent without TLS";
    let mut peer = Peer::builder()
        .sink("http://user:geheim@peer.invalid/")
        .start();
    let line = peer.log_line(warning);
    assert!(line.contains("http://peer.invalid/"), "{line}");
    peer.signal(Signal::TERM);
    peer.wait();
    let mut local = Peer::builder().sink("http://user:geheim@[::1]:1/").start();
    local.signal(Signal::TERM);
    local.wait();
    let log = local.rest_of_stderr();
    assert!(!log.iter().any(|line| line.contains(warning)), "{log:?}");
}

#[test]
fn refused_credentials_are_no_fault_of_the_event() {
    let behind = ScriptedPeer::answering("403 Forbidden");
    let peer = Peer::builder().sink(&behind.url()).start();
    peer.put("key1", "1").assert_problem(503);
    peer.log_line("the credentials are refused with 403");
}

#[test]
fn component_puts_over_tls_to_a_peer_that_the_system_trusts() {
    let authority = Authority::new("authority");
    let behind = tls_peer(&authority).start();
    let url = format!("https://localhost:{}/", behind.address().port());
    let peer = to(&url).own_env("SSL_CERT_FILE", &path(&authority.file("ca.pem")));
    peer.start().put("key1", "1").assert_created();
    let other = Authority::new("other");
    let peer = to(&url).own_env("SSL_CERT_FILE", &path(&other.file("ca.pem")));
    peer.start().put("key1", "1").assert_problem(503);
}

/// The URL of a peer, with the authorities of its certificate.
fn url(peer: &Peer, authority: &Authority) -> String {
    let port = peer.address().port();
    format!(
        "https://localhost:{port}/?ca={}",
        path(&authority.file("ca.pem"))
    )
}

/// Puts an event with the command.
fn put(event: &str, url: &str) -> Output {
    run(&["put", "key1", event, "--to", url])
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
