//! Servers of unsupported versions: refused at the start and later, or allowed with a warning.

use super::fake_server::{FakeServer, stream_info};
use super::{Link, STREAM, Single, can_start};
use crate::support::{Peer, run, serve};

/// The oldest supported version.
const OLDEST: &str = "2.11.11";

fn url(hosts: &str, parameters: &str) -> String {
    format!("nats://{hosts}/{STREAM}?replicas=1{parameters}")
}

#[test]
fn old_server_is_refused_at_the_start_with_the_reason() {
    for version in ["2.9.10", "2.11.10", "2.11.11-RC.1", "", "dev", "2.10"] {
        let server = FakeServer::of_version(version);
        let url = url(&server.address().to_string(), "");
        let outputs = [
            run(&serve(&url)),
            run(&["import", "/dev/null", "--store", &url]),
        ];
        for output in outputs {
            let error = output.assert_failed(1);
            for told in [
                &format!("the server \"fake\" has version {version:?}"),
                OLDEST,
                "lost acknowledged events",
                "Take nats-server 2.15.1",
                "unsafe_version=true",
            ] {
                assert!(error.contains(told), "{version}: {error}");
            }
        }
    }
}

#[test]
fn old_server_beside_a_new_one_is_refused_at_the_start() {
    if !can_start("a new server of NATS beside an old one") {
        return;
    }
    let nats = Single::start();
    let old = FakeServer::of_version("2.9.10");
    let hosts = [nats.cluster.address(0), old.address()].map(|address| address.to_string());
    for hosts in [hosts.join(","), format!("{},{}", hosts[1], hosts[0])] {
        let output = run(&serve(&url(&hosts, "")));
        let error = output.assert_failed(1);
        assert!(error.contains("has version \"2.9.10\""), "{error}");
    }
}

/// The stream's metadata has the version of its leader.
#[test]
fn old_leader_behind_a_new_server_is_refused_at_the_start() {
    let server = FakeServer::start("2.15.1", |_| {
        let metadata = serde_json::json!({"_nats.ver": "2.11.10"});
        Some(stream_info(STREAM, "2026-11-26T00:00:00Z", 0, &metadata).to_string())
    });
    let output = run(&serve(&url(&server.address().to_string(), "")));
    let error = output.assert_failed(1);
    assert!(error.contains("has version \"2.11.10\""), "{error}");
}

/// It is down at the start, and later the only one that is left.
#[test]
fn old_server_after_a_reconnect_gets_no_events() {
    if !can_start("an old server of NATS later") {
        return;
    }
    let nats = Single::start();
    let old = FakeServer::start("2.9.10", |subject| {
        assert!(!subject.starts_with("alldata."), "an old server was put to");
        None
    });
    let new_way = Link::to(nats.cluster.address(0));
    let old_way = Link::to(old.address());
    old_way.cut();
    let hosts = format!("{},{}", new_way.address(), old_way.address());
    let peer = Peer::builder().sink(&url(&hosts, "")).start();
    peer.put("a", "1").assert_created();
    old_way.mend();
    new_way.cut();
    let line =
        peer.log_line("the stream takes no events: the server \"fake\" has version \"2.9.10\"");
    assert!(line.contains("Take nats-server 2.15.1"), "{line}");
    assert_eq!(peer.put("b", "1").assert_problem(503)["stored"], "no");
    old_way.cut();
    new_way.mend();
    peer.log_line("the stream is fit to put into again");
    peer.put("b", "1").assert_created();
}

#[test]
fn unsafe_version_is_logged_as_a_warning() {
    // The start ends with this response.
    let server = FakeServer::start("2.9.10", |_| {
        Some(r#"{"error":{"code":400,"err_code":10025,"description":"no more"}}"#.to_owned())
    });
    let url = url(&server.address().to_string(), "&unsafe_version=true");
    let output = run(&serve(&url));
    assert_eq!(output.code, Some(1));
    let warned = output.stderr.lines().any(|line| {
        line.contains("WARN") && line.contains("events may be lost") && line.contains("2.9.10")
    });
    assert!(warned, "{output:?}");
    assert!(output.stderr.contains("no more"), "{output:?}");
}

#[test]
fn old_server_is_read_from_with_a_warning() {
    let server = FakeServer::start("2.9.10", |_| {
        Some(
            r#"{"error":{"code":404,"err_code":10059,"description":"stream not found"}}"#
                .to_owned(),
        )
    });
    let url = url(&server.address().to_string(), "");
    for arguments in [&["get", "a"][..], &["export"], &["verify"]] {
        let output = run(&[arguments, &["--store", &url]].concat());
        assert_eq!(output.code, Some(1));
        for told in [
            "WARN",
            "may lack events that were acknowledged",
            "stream not found",
        ] {
            assert!(output.stderr.contains(told), "{output:?}");
        }
    }
}
