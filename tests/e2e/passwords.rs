//! Passwords and tokens in URLs: they are sent to the server that they are for, and appear in no message and no
//! log.

use rustix::process::Signal;

use crate::support::{Output, Peer, ScriptedPeer, run, serve};

/// The secret, wherever it is in a URL.
const SECRET: &str = "geheim";

/// URLs that are invalid, or of servers that can't be reached, with a password in each.
const URLS: [&str; 22] = [
    "http://user:geheim@127.0.0.1:99999/",
    "http://user:geheim@127.0.0.1:0/",
    "http://user:geheim@127.0.0.1:x/",
    "http://user:geheim@",
    "http://user:geheim@/",
    "http://user:geheim#@127.0.0.1:1/",
    "http://user:geheim/@127.0.0.1:1/",
    "http://user:1/geheim@127.0.0.1:1/",
    "http:user:geheim@127.0.0.1/",
    "https://user:geheim@127.0.0.1/?cert=a",
    "HTTP:user:geheim@127.0.0.1/",
    "nats://user:geheim@127.0.0.1:99999/events",
    "nats://geheim@127.0.0.1:99999/events",
    "nats://user:geheim@127.0.0.1:1",
    "tls://user:geheim@127.0.0.1:1/events",
    "memory://user:geheim@127.0.0.1/",
    "postgres://user:geheim@127.0.0.1/events",
    "user:geheim@127.0.0.1",
    "sqlite://user:geheim@127.0.0.1/events",
    "sqlite://user:geheim@127.0.0.1/events?a=b",
    "sqlite:///user:geheim@127.0.0.1/events",
    "ndjson://user:geheim@127.0.0.1/events",
];

#[test]
fn wrong_url_is_refused_without_its_password() {
    for url in URLS {
        for arguments in [
            &serve(url)[..],
            &["put", "key1", "1", "--to", url],
            &["get", "key1", "--store", url],
            &["export", "--store", url],
            &["import", "-", "--store", url],
            &["verify", "--store", url],
        ] {
            let output = Output::with_environment(arguments, &[("RUST_LOG", "trace")]);
            assert_eq!(output.code, Some(2), "{arguments:?}: {output:?}");
            assert_not_shown(&output);
        }
    }
}

#[test]
fn help_does_not_show_password_in_variable() {
    let url = "http://user:geheim@127.0.0.1:1/";
    let variables = ["SINK", "STORE", "TO"].map(|name| format!("ALLDATA_PEER_{name}"));
    let variables = variables.each_ref().map(|name| (name.as_str(), url));
    for command in ["serve", "get", "export", "import", "verify", "put"] {
        let output = Output::with_environment(&[command, "--help"], &variables);
        output.assert_ok();
        assert_not_shown(&output);
    }
}

#[test]
fn login_is_sent_as_basic_credentials_and_logged_nowhere() {
    let other = ScriptedPeer::answering("201 Created");
    let url = format!("http://user:geheim@{}/_put", other.address());
    let mut peer = Peer::builder()
        .sink(&url)
        .own_env("RUST_LOG", "trace")
        .start();
    peer.put("key1", "1").assert_created();
    // The text is `user:geheim`.
    let basic = Some("Basic dXNlcjpnZWhlaW0=");
    assert_eq!(other.request().header("authorization"), basic);
    let arguments = ["put", "key1", "1", "--to", &url];
    let output = Output::with_environment(&arguments, &[("RUST_LOG", "trace")]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_not_shown(&output);
    assert_eq!(other.request().header("authorization"), basic);
    drop(other);
    // The peer has ended, which is logged and answered.
    let answer = peer.put("key1", "1");
    assert!(!answer.text().contains(SECRET), "{answer:?}");
    let output = Output::with_environment(&arguments, &[("RUST_LOG", "trace")]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert_not_shown(&output);
    peer.signal(Signal::TERM);
    peer.wait();
    let log = peer.rest_of_stderr().join("\n");
    assert!(log.contains(&other_name(&url)), "{log}");
    assert!(!log.contains(SECRET) && !log.contains("dXNlcjpn"), "{log}");
}

#[test]
fn password_of_a_stream_is_logged_nowhere() {
    // Nobody listens there.
    let nobody = Peer::nobody();
    let address = nobody.url().replace("http://", "").replace("/_put", "");
    for login in ["user:geheim", "geheim"] {
        let url = format!("nats://{login}@{address}/events");
        let output = Output::with_environment(&serve(&url), &[("RUST_LOG", "trace")]);
        assert_eq!(output.code, Some(1), "{output:?}");
        assert_not_shown(&output);
    }
}

#[test]
fn forward_sink_refuses_login_without_showing_it() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let file = directory.path().join("peer.wasm").display().to_string();
    run(&["component", "--sink", "forward", "-o", &file]).assert_ok();
    for url in [
        "http://user:geheim@127.0.0.1:1/",
        "http://127.0.0.1:99999/?geheim",
    ] {
        let mut peer = Peer::builder()
            .arguments(&["--component", &file, "--env"])
            .arguments(&[&format!("ALLDATA_PEER_FORWARD_URL={url}")])
            .own_env("RUST_LOG", "trace")
            .start();
        let answer = peer.put("key1", "1");
        answer.assert_problem(500);
        assert!(!answer.text().contains(SECRET), "{answer:?}");
        peer.signal(Signal::TERM);
        peer.wait();
        let log = peer.rest_of_stderr().join("\n");
        assert!(log.contains("ALLDATA_PEER_FORWARD_URL"), "{log}");
        assert!(!log.contains(SECRET), "{log}");
    }
}

#[track_caller]
fn assert_not_shown(output: &Output) {
    let shown = output.stdout.contains(SECRET) || output.stderr.contains(SECRET);
    assert!(!shown, "{output:?}");
}

/// A URL with credentials, as it appears in messages.
fn other_name(url: &str) -> String {
    url.replace("user:geheim@", "")
}
