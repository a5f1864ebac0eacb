//! New certificates while the server runs: under load, invalid ones, many requests to read them, and expiry.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use crate::certificates::{Authority, Issued};
use crate::support::{Connection, Peer, Post, wait_until};
use crate::tls_client::{SERVER_NAME, TlsClient, tls_peer};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Puts on new connections and on kept ones until the end of `work`. Each put must be acknowledged.
fn under_load(client: &TlsClient, address: SocketAddr, work: impl FnOnce()) {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..3 {
            let is_done = &is_done;
            scope.spawn(move || {
                let mut kept = client.connect(address);
                for number in 1.. {
                    let put = Post::put(&format!("{thread}-{number}"), "1");
                    kept.ask(&put).assert_created();
                    client.connect(address).ask(&put).assert_created();
                    if is_done.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        // Also when it panics, so that the threads end.
        let done = Done(&is_done);
        work();
        drop(done);
    });
}

struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The certificate that a new connection gets.
fn presented(client: &TlsClient, address: SocketAddr) -> CertificateDer<'static> {
    let stream = client.stream(address).expect("shakes hands");
    let chain = stream.connection().peer_certificates();
    chain.expect("has a certificate")[0].clone().into_owned()
}

fn certificate(issued: &Issued) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&issued.certificate).expect("reads")
}

#[test]
fn changed_files_take_effect_under_load_without_failed_put() {
    let authority = Authority::new("authority");
    let peer = tls_peer(&authority).start();
    let client = TlsClient::new(&authority);
    let old = presented(&client, peer.address());
    under_load(&client, peer.address(), || {
        for _ in 0..3 {
            let new = certificate(&authority.issue(SERVER_NAME));
            assert_ne!(new, old);
            wait_until("new connections get the new certificate", || {
                presented(&client, peer.address()) == new
            });
        }
    });
    assert!(
        peer.log_line("TLS certificates read again")
            .contains("expires=")
    );
}

#[test]
fn invalid_pair_keeps_old_certificate() {
    let authority = Authority::new("authority");
    let peer = tls_peer(&authority).start();
    let client = TlsClient::new(&authority);
    let old = presented(&client, peer.address());
    let other = authority.issue("other");
    let path = authority.file(&format!("{SERVER_NAME}.pem"));
    for text in [
        "no PEM".to_owned(),
        fs::read_to_string(&other.certificate).expect("reads"),
    ] {
        fs::write(&path, &text).expect("writes");
        let line = peer.log_line("not read again");
        assert!(
            line.contains("ERROR") && line.contains(SERVER_NAME),
            "{line}"
        );
        assert_eq!(presented(&client, peer.address()), old);
    }
    fs::remove_file(&path).expect("removes");
    peer.log_line("not read again");
    let new = certificate(&authority.issue(SERVER_NAME));
    peer.log_line("TLS certificates read again");
    assert_eq!(presented(&client, peer.address()), new);
}

#[test]
fn hangup_reads_certificates_again_also_in_a_storm() {
    let authority = Authority::new("authority");
    let mut peer = tls_peer(&authority).start();
    let client = TlsClient::new(&authority);
    peer.signal(Signal::HUP);
    peer.log_line("TLS certificates read again");
    under_load(&client, peer.address(), || {
        for _ in 0..500 {
            peer.signal(Signal::HUP);
        }
        let new = certificate(&authority.issue(SERVER_NAME));
        peer.signal(Signal::HUP);
        wait_until("new connections get the new certificate", || {
            presented(&client, peer.address()) == new
        });
    });
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
}

#[test]
fn new_client_authority_refuses_clients_of_the_old() {
    let [servers, old, new] = ["servers", "old", "new"].map(Authority::new);
    let path = servers.file("clients.pem");
    fs::copy(old.path(), &path).expect("copies");
    let peer = tls_peer(&servers)
        .arguments(&["--tls-client-ca", &path.display().to_string()])
        .start();
    let client =
        |authority: &Authority| TlsClient::with_certificate(&servers, &authority.issue("client"));
    let old_client = client(&old);
    let mut kept = old_client.connect(peer.address());
    kept.ask(&Post::put("key1", "1")).assert_created();
    fs::copy(new.path(), &path).expect("copies");
    peer.log_line("TLS certificates read again");
    // The same client, which could resume its session.
    let error = old_client.refusal(peer.address());
    assert!(error.contains("UnknownCA"), "{error}");
    let mut connection = client(&new).connect(peer.address());
    connection.ask(&Post::put("key2", "2")).assert_created();
    kept.ask(&Post::put("key3", "3")).assert_created();
}

#[test]
fn expiry_is_warned_of_at_start() {
    let authority = Authority::new("authority");
    let peer = |lifetime: Duration| -> Peer {
        let [certificate, key] = authority
            .issue_with(SERVER_NAME, |params| {
                params.not_after = (SystemTime::now() + lifetime).into();
            })
            .paths();
        let peer = Peer::builder().arguments(&["--tls-cert", &certificate, "--tls-key", &key]);
        peer.start()
    };
    let line = peer(10 * DAY + DAY / 2).log_line("expires soon");
    assert!(line.contains("WARN") && line.contains("days=10"), "{line}");
    peer(Duration::ZERO).log_line("has expired");

    let mut peer = peer(15 * DAY);
    Connection::open(peer.address());
    peer.signal(Signal::TERM);
    peer.wait();
    let log = peer.rest_of_stderr().join("\n");
    assert!(!log.contains("expire"), "{log}");
}
