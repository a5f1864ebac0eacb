//! Mutual TLS: which client certificates are accepted.

use std::time::SystemTime;

use crate::certificates::Authority;
use crate::support::admin::scrape;
use crate::support::{Output, Peer, Post, serve, wait_until};
use crate::tls_client::{TlsClient, tls_peer};

/// A peer that demands certificates of the authority `clients`.
fn mutual(servers: &Authority, clients: &Authority, names: &[&str]) -> Peer {
    let mut peer = tls_peer(servers).arguments(&["--tls-client-ca", &clients.path()]);
    for name in names {
        peer = peer.arguments(&["--tls-client-name", name]);
    }
    peer.start()
}

#[test]
fn certificate_of_authority_is_accepted_and_others_are_refused() {
    let [servers, clients, others] = ["servers", "clients", "others"].map(Authority::new);
    let peer = mutual(&servers, &clients, &[]);
    let good = TlsClient::with_certificate(&servers, &clients.issue("client"));
    let mut connection = good.connect(peer.address());
    connection.ask(&Post::put("key1", "1")).assert_created();

    let none = TlsClient::new(&servers).refusal(peer.address());
    assert!(none.contains("CertificateRequired"), "{none}");
    let line = peer.log_line("a TLS handshake failed");
    assert!(line.contains("peer sent no certificates"), "{line}");
    let expired = clients.issue_expired("expired");
    let expired = TlsClient::with_certificate(&servers, &expired).refusal(peer.address());
    assert!(expired.contains("CertificateExpired"), "{expired}");
    let other = others.issue("client");
    let other = TlsClient::with_certificate(&servers, &other).refusal(peer.address());
    assert!(other.contains("UnknownCA"), "{other}");
    connection.ask(&Post::put("key2", "2")).assert_created();
    assert_eq!(peer.stored().lines().count(), 2);
}

#[test]
fn names_restrict_certificates_by_dns_name_or_else_common_name() {
    let authority = Authority::new("authority");
    let peer = mutual(&authority, &authority, &["one.example", "Two"]);
    let accepted = |issued| {
        let client = TlsClient::with_certificate(&authority, &issued);
        let mut connection = client.connect(peer.address());
        connection.ask(&Post::put("key1", "1")).assert_created();
    };
    accepted(authority.issue("One.Example"));
    // Only a common name.
    accepted(authority.issue_with("two", |_| ()));
    // A common name does not count beside a DNS name.
    let hidden = authority.issue_with("two", |params| {
        let name = "three.example".try_into().expect("is a name");
        params.subject_alt_names = vec![rcgen::SanType::DnsName(name)];
    });
    for issued in [authority.issue("three.example"), hidden] {
        let error = TlsClient::with_certificate(&authority, &issued).refusal(peer.address());
        assert!(error.contains("CertificateUnknown"), "{error}");
    }
    let line = peer.log_line("a TLS handshake failed");
    assert!(
        line.contains("three.example") && line.contains("--tls-client-name"),
        "{line}"
    );
}

#[test]
fn failed_handshakes_and_expiry_are_metrics() {
    let authority = Authority::new("authority");
    let peer = tls_peer(&authority).admin().start();
    let value = |name: &str| scrape(peer.admin()).value(&format!("alldata_peer_tls_{name}"));
    TlsClient::new(&authority).connect(peer.address());
    assert_eq!(value("handshakes_failed_total"), 0.0);
    TlsClient::new(&Authority::new("other")).refusal(peer.address());
    wait_until("it is counted", || value("handshakes_failed_total") == 1.0);
    peer.connect()
        .ask(&Post::put("key1", "1"))
        .assert_problem(400);
    assert_eq!(value("handshakes_failed_total"), 2.0);
    // Certificates of tests are valid for long.
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("is past");
    assert!(value("certificate_expiry_time_seconds") > now.as_secs_f64());
}

#[test]
fn flags_of_tls_need_one_another() {
    let authority = Authority::new("authority");
    let [certificate, key] = authority.issue("localhost").paths();
    let path = authority.path();
    for flags in [
        &["--tls-cert", &certificate][..],
        &["--tls-key", &key],
        &["--tls-client-ca", &path],
        &[
            "--tls-cert",
            &certificate,
            "--tls-key",
            &key,
            "--tls-client-name",
            "a",
        ],
    ] {
        let arguments = [&serve("memory:")[..], flags].concat();
        let output = Output::with_environment(&arguments, &[]);
        assert_eq!(output.code, Some(2), "{output:?}");
    }
    let flags = ["--tls-cert", &path, "--tls-key", &key];
    let output = Output::with_environment(&[&serve("memory:")[..], &flags].concat(), &[]);
    let text = output.assert_failed(1);
    assert!(
        text.contains(&key) && text.contains("does not match"),
        "{text}"
    );
}

#[test]
fn address_for_all_is_warned_about_unless_clients_are_authenticated() {
    let authority = Authority::new("authority");
    let [certificate, key] = authority.issue("localhost").paths();
    let all = [
        "--hostname",
        "0.0.0.0",
        "--tls-cert",
        &certificate,
        "--tls-key",
        &key,
    ];
    let warns = |arguments: &[&str]| {
        let mut peer = Peer::from_environment(&[("ALLDATA_PEER_PORT", "0")])
            .arguments(arguments)
            .start();
        peer.signal(rustix::process::Signal::TERM);
        peer.wait();
        let log = peer.rest_of_stderr().join("\n");
        log.contains("every client that reaches this address can put")
    };
    assert!(warns(&all));
    assert!(warns(&["--hostname", "0.0.0.0"]));
    assert!(!warns(
        &[&all[..], &["--tls-client-ca", &authority.path()]].concat()
    ));
    assert!(!warns(&["--hostname", "127.0.0.1"]));
}
