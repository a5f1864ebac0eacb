//! The library with TLS settings and an authorizer of the program that embeds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use alldata_peer_server_http::rustls::ServerConfig;
use alldata_peer_server_http::{
    Authorizer, Error, Identity, Limits, PeerServer, PeerServerBuilder, PutError, RequestHead,
    TlsConfig, TlsFiles, Unauthorized,
};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificates::Authority;
use crate::support::{DEADLINE, Embedded, Post, wait_until};
use crate::tls_client::{SERVER_NAME, TlsClient};

/// More than the buffers of a connection hold.
const LARGE_REASON_BYTES: usize = 8 * 1024 * 1024;

/// Lets loopback clients with a name post to one path, and counts how often it was read again.
#[derive(Clone, Default)]
struct ByName(Arc<AtomicUsize>);

impl Authorizer for ByName {
    fn authorize(&self, request: &RequestHead<'_>) -> Result<Identity, Unauthorized> {
        let peer = request.peer.expect("was accepted by the server");
        assert!(peer.ip().is_loopback());
        let name = request.headers.get("x-name");
        let name = name.ok_or(Unauthorized::NoCredentials)?;
        let name = name.to_str();
        match (request.method.as_str(), request.uri.path(), name) {
            ("POST", "/_put", Ok(name)) => Ok(Identity::new(name)),
            _ => Err(Unauthorized::InvalidCredentials),
        }
    }

    fn reload(&self) -> Result<(), Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Panics when it is read again for the first time, and fails for the second.
#[derive(Clone, Default)]
struct Failing(Arc<AtomicUsize>);

impl Authorizer for Failing {
    fn authorize(&self, _: &RequestHead<'_>) -> Result<Identity, Unauthorized> {
        Ok(Identity::new("name"))
    }

    fn reload(&self) -> Result<(), Error> {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 => panic!("it is to panic"),
            1 => Err(Error::TokenFile {
                path: "tokens".into(),
                reason: "it is to fail".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

fn builder() -> PeerServerBuilder {
    PeerServer::builder().on_put(|_, _| async { Ok(()) })
}

#[test]
fn authorizer_sees_request_and_decides() {
    let authorizer = ByName::default();
    let server = Embedded::start(builder().authorizer(authorizer.clone()));
    let mut connection = server.connect();
    let post = Post::put("key1", "1");
    let refused = connection.ask(&post);
    let challenge = refused.header("www-authenticate").expect("has a challenge");
    assert!(!challenge.contains("error="), "{challenge}");
    refused.assert_problem(401);
    let named = post.header("X-Name: name");
    connection.ask(&named).assert_created();
    let elsewhere = connection.ask(&named.clone().target("/other"));
    let challenge = elsewhere
        .header("www-authenticate")
        .expect("has a challenge");
    assert!(challenge.contains("invalid_token"), "{challenge}");
    assert_eq!(authorizer.0.load(Ordering::Relaxed), 0);
    assert!(server.server.reload());
    wait_until("it was read again", || {
        authorizer.0.load(Ordering::Relaxed) == 1
    });
    server.close();
}

#[test]
fn failed_and_panicked_reloads_are_tried_again() {
    let authorizer = Failing::default();
    let server = Embedded::start(builder().authorizer(authorizer.clone()));
    assert!(server.server.reload());
    let count = || authorizer.0.load(Ordering::Relaxed);
    wait_until("it was read again", || count() == 3);
    // Requests are still served.
    assert!(server.server.reload());
    wait_until("it was read again on request", || count() == 4);
    server
        .connect()
        .ask(&Post::put("key1", "1"))
        .assert_created();
    server.close();
}

#[test]
fn server_config_of_the_program_is_used() {
    let authority = Authority::new("authority");
    let issued = authority.issue(SERVER_NAME);
    let certificate = CertificateDer::from_pem_file(&issued.certificate).expect("reads");
    let key = PrivateKeyDer::from_pem_file(&issued.key).expect("reads");
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate], key);
    let config = TlsConfig::from_server_config(Arc::new(config.expect("is a pair")));
    assert!(config.expiry().is_none());
    let server = Embedded::start(builder().tls(config));
    assert_eq!(server.server.scheme(), "https");
    let mut connection = TlsClient::new(&authority).connect(server.address());
    connection.ask(&Post::put("key1", "1")).assert_created();
    server.close();
    assert_eq!(connection.rest(), b"");
}

/// A response that its client reads slowly is not cut off for a new connection: with TLS too, it waits in a buffer of
/// the server.
#[test]
fn unread_response_over_tls_keeps_its_connection() {
    let authority = Authority::new("authority");
    let issued = authority.issue(SERVER_NAME);
    let config = TlsConfig::from_pem_files(TlsFiles {
        certificates: issued.certificate,
        key: issued.key,
        ..TlsFiles::default()
    });
    let reason = "x".repeat(LARGE_REASON_BYTES);
    let builder = PeerServer::builder().on_put({
        let reason = reason.clone();
        move |key, _| {
            let large = (key == "large").then(|| PutError::Rejected(reason.clone()));
            async { large.map_or(Ok(()), Err) }
        }
    });
    let builder = builder.limits(Limits {
        max_guest_time: DEADLINE,
        max_connections: 1,
        ..Limits::default()
    });
    let server = Embedded::start(builder.tls(config.expect("is accepted")));
    let client = TlsClient::new(&authority);
    let mut slow = client.connect(server.address());
    slow.send(Post::put("large", "1").bytes());
    // Its first bytes have arrived.
    assert!(!slow.is_quiet_for(DEADLINE));
    let address = server.address();
    let waiting = thread::spawn(move || {
        let mut waiting = client.connect(address);
        waiting.ask(&Post::put("key1", "1")).assert_created();
    });
    // Longer than a connection has to be idle.
    thread::park_timeout(Duration::from_millis(300));
    assert!(!waiting.is_finished(), "there was a place");
    assert_eq!(slow.answer().detail(422), reason);
    waiting.join().expect("is served");
}

#[test]
fn server_without_files_has_nothing_to_read_again() {
    let server = Embedded::start(builder());
    assert!(!server.server.reload());
    assert_eq!(server.server.scheme(), "http");
    server.close();
}
