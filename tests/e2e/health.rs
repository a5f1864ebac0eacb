//! `health`: whether a server is ready, over HTTP and TLS, with tokens, and of servers that do not respond.

use std::fs;

use rustix::process::Signal;

use crate::certificates::Authority;
use crate::support::{Output, Peer, Post, ScriptedPeer, run, wait_until};
use crate::tls_client::tls_peer;

fn health(url: &str) -> Output {
    run(&["health", url, "--timeout", "30s"])
}

#[test]
fn ready_server_is_healthy_and_draining_one_is_not() {
    let other = ScriptedPeer::start(|exchange| {
        exchange.read_body();
    });
    let mut peer = Peer::builder().admin().sink(&other.url()).start();
    let url = format!("http://{}/readyz", peer.admin());
    assert_eq!(health(&url).assert_ok(), "");
    let mut connection = peer.connect();
    connection.send(Post::put("key1", "1").bytes());
    let mut put = other.request();
    peer.signal(Signal::TERM);
    wait_until("it drains", || health(&url).code == Some(1));
    let sentence = health(&url);
    let expected = format!("error: {url} is not ready: 503: draining");
    assert_eq!(sentence.assert_failed(1), expected);
    health(&format!("http://{}/livez", peer.admin())).assert_ok();
    put.answer("201 Created", "", "");
    connection.answer().assert_created();
    assert_eq!(peer.wait().code(), Some(0));
    let sentence = health(&url);
    let sentence = sentence.assert_failed(1);
    assert!(sentence.contains("no connection"), "{sentence}");
}

#[test]
fn token_and_certificate_are_those_of_files() {
    let authority = Authority::new("authority");
    let tokens = authority.file("tokens");
    let token = "0123456789abcdef0123456789abcdef";
    fs::write(&tokens, format!("health:{token}\n")).expect("writes");
    let (tokens, ca) = (tokens.display().to_string(), authority.path());
    let arguments = ["--admin-listen", "0.0.0.0:0", "--token-file", &tokens];
    let peer = tls_peer(&authority).arguments(&arguments).start();
    let url = format!("https://localhost:{}/readyz", peer.admin().port());
    health(&format!("{url}?ca={ca}&token-file={tokens}")).assert_ok();
    let refused = health(&format!("{url}?ca={ca}"));
    let refused = refused.assert_failed(1);
    assert!(refused.ends_with("refused with 401"), "{refused}");
    let unknown = health(&format!("{url}?token-file={tokens}"));
    let unknown = unknown.assert_failed(1);
    assert!(unknown.contains("certificate"), "{unknown}");
    for output in [refused, unknown] {
        assert!(!output.contains(token), "{output}");
    }
}

#[test]
fn server_that_does_not_respond_is_not_healthy() {
    let silent = ScriptedPeer::start(|_| {});
    let output = run(&["health", &silent.url(), "--timeout", "1s"]);
    let sentence = output.assert_failed(1);
    assert!(sentence.ends_with("no response in 1 s"), "{sentence}");
    drop(silent);
    // The port for puts tells nothing.
    let peer = Peer::start();
    let sentence = health(&peer.url());
    let sentence = sentence.assert_failed(1);
    assert!(sentence.contains("405"), "{sentence}");
    for url in ["", "localhost:9090", "ftp://localhost/"] {
        health(url).assert_failed(2);
    }
}
