//! The address of a client behind a proxy: of which proxies, and in which field, it is believed.

use std::sync::mpsc;

use alldata_peer_server_http::sink::PutContext;
use alldata_peer_server_http::{
    Authorizer, ForwardedField, Identity, PeerServer, PutError, PutSink, RequestHead,
    TrustedProxies, Unauthorized,
};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    Connection, DEADLINE, Embedded, Peer, PeerBuilder, Post, handler_only, run, serve,
};

/// A server that writes its access log to standard output.
fn peer(arguments: &[&str]) -> PeerBuilder {
    let log = ["--access-log", "-", "--sink=memory:"];
    Peer::builder().arguments(&log).arguments(arguments)
}

/// The address of the next line of the access log.
#[track_caller]
fn logged_address(peer: &Peer) -> Value {
    let line: Value = serde_json::from_str(&peer.stdout_line()).expect("is JSON");
    line["address"].clone()
}

fn put(fields: &[&str]) -> Post {
    let fields = fields.iter();
    fields.fold(Post::put("key1", "1"), |post, field| post.header(field))
}

#[test]
fn address_of_trusted_proxy_is_believed() {
    let peer = peer(&["--trusted-proxy", "127.0.0.0/8,10.0.0.0/8"]).start();
    for (fields, expected) in [
        (&["X-Forwarded-For: 192.0.2.1"][..], "192.0.2.1"),
        (
            &["X-Forwarded-For: 9.9.9.9, 192.0.2.1, 10.7.7.7"],
            "192.0.2.1",
        ),
        (
            &[
                "X-Forwarded-For: 9.9.9.9",
                "X-Forwarded-For: [2001:db8::1]:7",
            ],
            "2001:db8::1",
        ),
        (&["X-Forwarded-For: 9.9.9.9, unknown"], "127.0.0.1"),
        (&["Forwarded: for=9.9.9.9"], "127.0.0.1"),
        (
            &["Forwarded: for=9.9.9.9", "X-Forwarded-For: 192.0.2.1"],
            "192.0.2.1",
        ),
        (&["X-Real-IP: 9.9.9.9"], "127.0.0.1"),
        (&[], "127.0.0.1"),
    ] {
        peer.send(&put(fields)).assert_created();
        assert_eq!(logged_address(&peer), expected, "{fields:?}");
    }
    // That of the request before is not reused on its connection.
    let mut connection = peer.connect();
    for (fields, expected) in [
        (&["X-Forwarded-For: 192.0.2.1"][..], "192.0.2.1"),
        (&[], "127.0.0.1"),
    ] {
        connection.ask(&put(fields)).assert_created();
        assert_eq!(logged_address(&peer), expected);
    }
}

#[test]
fn only_the_field_that_is_asked_for_is_read() {
    let arguments = ["--trusted-proxy=127.0.0.1", "--client-ip-header=forwarded"];
    let peer = peer(&arguments).start();
    for (fields, expected) in [
        (
            &["Forwarded: for=9.9.9.9, for=\"[2001:db8::1]:7\";proto=http"][..],
            "2001:db8::1",
        ),
        (&["X-Forwarded-For: 9.9.9.9"], "127.0.0.1"),
        (
            &["X-Forwarded-For: 9.9.9.9", "Forwarded: for=192.0.2.1"],
            "192.0.2.1",
        ),
        (&["Forwarded: for=9.9.9.9;x=\", for=192.0.2.1"], "192.0.2.1"),
    ] {
        peer.send(&put(fields)).assert_created();
        assert_eq!(logged_address(&peer), expected, "{fields:?}");
    }
}

#[test]
fn field_of_untrusted_client_is_ignored() {
    for arguments in [&[][..], &["--trusted-proxy=10.0.0.0/8,unix,::1"]] {
        let peer = peer(arguments).start();
        let forged = ["X-Forwarded-For: 9.9.9.9", "Forwarded: for=9.9.9.9"];
        peer.send(&put(&forged)).assert_created();
        assert_eq!(logged_address(&peer), "127.0.0.1");
    }
}

#[test]
fn client_of_unix_socket_is_believed_if_asked_for() {
    for (trusted, expected) in [
        ("unix", Value::from("192.0.2.1")),
        ("127.0.0.1", Value::Null),
    ] {
        let peer = Peer::from_environment(&[]).arguments(&[
            "--access-log",
            "-",
            "--sink=memory:",
            "--listen=unix:peer.sock",
            "--trusted-proxy",
            trusted,
        ]);
        let peer = peer.start();
        let mut connection = Connection::open_unix(&peer.file("peer.sock"));
        connection
            .ask(&put(&["X-Forwarded-For: 192.0.2.1"]))
            .assert_created();
        assert_eq!(logged_address(&peer), expected, "{trusted}");
    }
}

#[test]
fn refusal_in_log_has_the_address() {
    let mut peer = peer(&["--trusted-proxy=127.0.0.1", "--log-format=json"]).start();
    let refused = Post::new("{").header("X-Forwarded-For: 192.0.2.1");
    peer.send(&refused).assert_problem(400);
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    let lines = peer.rest_of_stderr();
    let lines = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).expect("is JSON"));
    let addresses = lines.filter_map(|line| line["fields"]["address"].as_str().map(str::to_owned));
    assert_eq!(addresses.collect::<Vec<_>>(), ["192.0.2.1"]);
}

/// Accepts everybody, and sends the addresses that it sees to the test.
struct Seen(mpsc::Sender<String>);

impl Authorizer for Seen {
    fn authorize(&self, request: &RequestHead<'_>) -> Result<Identity, Unauthorized> {
        let peer = request.peer.expect("is TCP").ip();
        let client = request.client_ip.expect("has an address");
        self.0
            .send(format!("{peer} {client}"))
            .expect("the test receives");
        Ok(Identity::new("anybody"))
    }
}

impl PutSink for Seen {
    async fn put(&self, _: String, _: String) -> Result<(), PutError> {
        Err(PutError::Failed("there is a context".to_owned()))
    }

    fn needs_context(&self) -> bool {
        true
    }

    async fn put_with_context(
        &self,
        _: String,
        _: String,
        context: PutContext,
    ) -> Result<(), PutError> {
        let peer = context.peer.expect("is TCP").ip();
        let client = context.client_ip.expect("has an address");
        self.0
            .send(format!("{peer} {client}"))
            .expect("the test receives");
        Ok(())
    }
}

#[test]
fn authorizer_and_sink_see_the_address() {
    for builder in [
        PeerServer::builder(),
        PeerServer::builder().compiled_component(handler_only()),
    ] {
        let (sender, seen) = mpsc::channel();
        let builder = builder.sink(Seen(sender.clone())).authorizer(Seen(sender));
        let server = Embedded::start(builder.trusted_proxies(TrustedProxies {
            proxies: vec!["127.0.0.1".parse().expect("is an address")],
            field: ForwardedField::Forwarded,
            proxy_protocol: false,
        }));
        server
            .send(&put(&["Forwarded: for=192.0.2.1"]))
            .assert_created();
        for _ in ["the authorizer", "the sink"] {
            let seen = seen.recv_timeout(DEADLINE).expect("is called");
            assert_eq!(seen, "127.0.0.1 192.0.2.1");
        }
        server.close();
    }
}

#[test]
fn invalid_flags_are_wrong_usage() {
    for (arguments, named) in [
        (&["--trusted-proxy=10.0.0.0/33"][..], "10.0.0.0/33"),
        (&["--trusted-proxy=localhost"], "localhost"),
        (
            &["--trusted-proxy=10.0.0.1", "--client-ip-header=x-real-ip"],
            "x-real-ip",
        ),
        (&["--proxy-protocol"], "--trusted-proxy"),
        (&["--client-ip-header=forwarded"], "--trusted-proxy"),
    ] {
        let output = run(&[&serve("memory:")[..], arguments].concat());
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.stderr.contains(named), "{output:?}");
    }
}

#[test]
fn proxy_protocol_that_is_off_needs_no_proxy() {
    let peer = Peer::from_environment(&[
        ("ALLDATA_PEER_PROXY_PROTOCOL", "false"),
        ("ALLDATA_PEER_HOSTNAME", "127.0.0.1"),
        ("ALLDATA_PEER_PORT", "0"),
        ("ALLDATA_PEER_SINK", "memory:"),
    ]);
    peer.start().put("key1", "1").assert_created();
}
