//! The start of a peer if servers or the stream are missing, late or silent.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;

use super::fake_server::FakeServer;
use super::{Cluster, Link, STREAM, Single, can_start, url};
use crate::support::{Peer, run, serve, wait_until};

/// The secret that no message may contain.
const SECRET: &str = "s3cr3t";

/// Runs a server that can't start, and returns its error.
#[track_caller]
fn refusal(url: &str) -> String {
    let output = run(&serve(url));
    let error = output.assert_failed(1);
    assert!(!error.contains(SECRET), "{error}");
    error.to_owned()
}

#[test]
fn peer_waits_for_late_servers() {
    if !can_start("servers of NATS that start later") {
        return;
    }
    let nats = Single::start();
    let link = Link::to(nats.cluster.address(0));
    link.cut();
    let url = format!("nats://{}/{STREAM}?replicas=1", link.address());
    let peer = thread::scope(|scope| {
        let starting = scope.spawn(|| Peer::builder().sink(&url).start());
        wait_until("the peer has found nobody", || link.refused() > 0);
        link.mend();
        starting.join().expect("starts")
    });
    peer.put("a", "1").assert_created();
}

#[test]
fn missing_server_is_an_error() {
    let (first, second) = (Peer::nobody().url(), Peer::nobody().url());
    let host = |url: &str| {
        let host = url.strip_prefix("http://").expect("is its form");
        host.trim_end_matches("/_put").to_owned()
    };
    let (first, second) = (host(&first), host(&second));
    let error = refusal(&format!("nats://u:{SECRET}@{first},{second}/{STREAM}"));
    let named = format!("nats://{first},{second}/{STREAM}");
    assert!(error.contains(&named), "{error}");
}

#[test]
fn silent_server_is_an_error() {
    if !can_start("servers of NATS that say nothing") {
        return;
    }
    let nats = Single::start();
    let links = [(); 3].map(|()| Link::to(nats.cluster.address(0)));
    links.iter().for_each(Link::hold);
    let hosts = links.each_ref().map(|link| link.address().to_string());
    let error = refusal(&format!("nats://{SECRET}@{}/{STREAM}", hosts.join(",")));
    assert!(hosts.iter().all(|host| error.contains(host)), "{error}");
}

#[test]
fn server_without_jetstream_is_an_error() {
    if !can_start("NATS without JetStream") {
        return;
    }
    // The account of this user has no JetStream.
    let nats = Single::with(&format!(
        "accounts {{ A {{ users: [ {{ user: u, password: {SECRET} }} ] }}, B {{ jetstream: enabled }} }}"
    ));
    let host = nats.cluster.hosts();
    let error = refusal(&format!("nats://u:{SECRET}@{host}/{STREAM}?replicas=1"));
    assert!(error.contains(&host), "{error}");
    assert!(error.to_lowercase().contains("jetstream"), "{error}");
}

#[test]
fn missing_info_permission_is_an_error() {
    if !can_start("NATS without permissions") {
        return;
    }
    let nats = Single::with(&format!(
        "authorization {{ users: [ {{ user: u, password: {SECRET}, \
         permissions {{ publish: {{ deny: \"$JS.API.>\" }} }} }} ] }}"
    ));
    let host = nats.cluster.hosts();
    let output = run(&serve(&format!(
        "nats://u:{SECRET}@{host}/{STREAM}?replicas=1"
    )));
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""));
    // The log has the error of the server.
    for told in ["Permissions Violation", "error: ", &host] {
        assert!(output.stderr.contains(told), "{output:?}");
    }
    assert!(!output.stderr.contains(SECRET), "{output:?}");
}

/// Two of three servers start a moment later than the peer.
#[test]
fn peer_waits_for_a_leader_at_the_start() {
    if !can_start("servers of NATS that start after the peer") {
        return;
    }
    let mut cluster = Cluster::start(3, "");
    let store = url(&cluster, "replicas=3");
    cluster.kill(0);
    cluster.kill(1);
    let error = refusal(&store);
    assert!(error.contains(&cluster.hosts()), "{error}");
    cluster.restart_killed();
    let peer = Peer::builder().sink(&store).start();
    peer.put("a", "1").assert_created();
}

/// The servers are silent at first, like those that have not found one another.
#[test]
fn peer_retries_until_its_deadline_at_the_start() {
    let asked = AtomicUsize::new(0);
    let server = FakeServer::start("2.15.1", move |_| {
        let number = asked.fetch_add(1, Ordering::Relaxed);
        // The first three requests get no response: a peer that waits 5 s for each waits for 15 s.
        (number >= 3).then(|| {
            r#"{"error":{"code":400,"err_code":10025,"description":"the test has answered"}}"#
                .to_owned()
        })
    });
    let output = run(&serve(&format!("nats://{}/{STREAM}", server.address())));
    let error = output.assert_failed(1);
    assert!(error.contains("the test has answered"), "{error}");
}

#[test]
fn invalid_url_is_wrong_usage() {
    for rest in [
        "127.0.0.1",
        "127.0.0.1/",
        "127.0.0.1:0x1/e",
        "127.0.0.1:4222,/e",
        "127.0.0.1/e?replicas=0",
        "127.0.0.1/e?replicas=6",
        "127.0.0.1/e?replicas=three",
        "127.0.0.1/e?subject=a.*",
        "127.0.0.1/e?subject=",
        "127.0.0.1/e?tls=maybe",
        "127.0.0.1/e?retention=limits",
        "127.0.0.1/e.f",
        "127.0.0.1/e*",
    ] {
        let url = format!("nats://user:{SECRET}@{rest}");
        let commands = [
            &["get", "a"][..],
            &["export"],
            &["verify"],
            &["import", "-"],
        ];
        let mut outputs: Vec<_> = commands
            .iter()
            .map(|command| run(&[command, &["--store", &url][..]].concat()))
            .collect();
        outputs.push(run(&serve(&url)));
        for output in outputs {
            output.assert_failed(2);
            assert!(!output.stderr.contains(SECRET), "{output:?}");
        }
    }
}

/// Not even in the most detailed log.
#[test]
fn log_has_no_secrets() {
    if !can_start("the log of what lets one in") {
        return;
    }
    for (authorization, login) in [
        (
            format!("user: u, password: {SECRET}"),
            format!("u:{SECRET}@"),
        ),
        (format!("token: {SECRET}"), format!("{SECRET}@")),
    ] {
        let nats = Single::with(&format!("authorization {{ {authorization} }}"));
        let link = Link::to(nats.cluster.address(0));
        let url = format!("nats://{login}{}/{STREAM}?replicas=1", link.address());
        let builder = Peer::builder().own_env("RUST_LOG", "trace");
        let mut peer = builder.sink(&url).start();
        peer.put("a", "1").assert_created();
        // It has to be authorized again.
        link.cut();
        link.mend();
        peer.put("b", "1").assert_created();
        peer.signal(Signal::TERM);
        assert_eq!(peer.wait().code(), Some(0));
        let log = peer.rest_of_stderr();
        let is_told = log.iter().any(|line| line.contains("connected again"));
        assert!(is_told, "{log:?}");
        let told = log.iter().find(|line| line.contains(SECRET));
        assert_eq!(told, None);
    }
}
