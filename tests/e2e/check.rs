//! `serve --check`: accepts what a start accepts, refuses what it refuses, and creates nothing.

use std::fs;
use std::io::Write as _;

use rustix::process::Signal;
use tempfile::{NamedTempFile, TempDir};

use crate::support::{Output, Peer, files_beside, handler_only_file, run};

fn check(arguments: &[&str]) -> Output {
    run(&[&["serve", "--check"], arguments].concat())
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("makes a directory")
}

#[test]
fn valid_configuration_is_one_line() {
    for (sink, expected) in [
        ("memory:", "memory:"),
        ("http://user:geheim@localhost:1/", "localhost:1"),
    ] {
        let output = check(&["--sink", sink]);
        let line = output.assert_ok();
        assert!(
            line.starts_with("the configuration is valid; sink: "),
            "{line}"
        );
        assert!(
            line.contains(expected) && !line.contains("geheim"),
            "{line}"
        );
        assert_eq!(line.lines().count(), 1);
    }
    let component = handler_only_file();
    check(&[
        "--sink=memory:",
        "--component",
        component.to_str().expect("is text"),
    ])
    .assert_ok();
}

#[test]
fn missing_store_is_not_created() {
    let directory = directory();
    for scheme in ["sqlite", "ndjson"] {
        let file = directory.path().join("events");
        let url = format!("{scheme}:{}", file.display());
        let line = format!("the configuration is valid; sink: {url}, which the start creates\n");
        assert_eq!(check(&["--sink", &url]).assert_ok(), line);
        assert!(files_beside(&file).is_empty());
        let nowhere = format!("{scheme}:{}", directory.path().join("a/b").display());
        let output = check(&["--sink", &nowhere]);
        assert!(
            output.assert_failed(1).contains("cannot create"),
            "{output:?}"
        );
    }
}

#[test]
fn check_runs_beside_server_and_keeps_its_store() {
    let peer = Peer::start();
    peer.put("key1", "1").assert_created();
    let port = peer.address().port().to_string();
    check(&[
        "--hostname=127.0.0.1",
        "--port",
        &port,
        "--sink",
        &peer.store(),
    ])
    .assert_ok();
    peer.put("key2", "2").assert_created();
    assert_eq!(peer.stored().lines().count(), 2);
}

#[test]
fn what_a_start_refuses_is_refused() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name).display().to_string();
    fs::write(path("text"), "no database").expect("writes");
    fs::write(path("peer.toml"), "max-body = 0").expect("writes");
    for (arguments, code, expected) in [
        (vec!["--sink=cloud:".to_owned()], 2, "cloud:"),
        (vec!["--sink=sqlite:a?b".to_owned()], 2, "no parameters"),
        (vec![format!("--sink=sqlite:{}", path("text"))], 1, "text"),
        (vec![format!("--component={}", path("text"))], 1, "text"),
        (
            vec![format!("--config={}", path("peer.toml"))],
            2,
            "peer.toml:1",
        ),
        (vec!["--max-body=0".to_owned()], 2, "--max-body"),
        (
            vec!["--admin-listen=0.0.0.0:9090".to_owned()],
            2,
            "not a loopback address",
        ),
        (
            vec![format!("--listen=unix:{}", path(&"x".repeat(120)))],
            1,
            "at most 107",
        ),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = check(&arguments);
        assert!(output.assert_failed(code).contains(expected), "{output:?}");
    }
}

#[test]
fn authenticated_operators_and_short_paths_are_accepted() {
    let directory = directory();
    // Readable by this user alone.
    let mut tokens = NamedTempFile::new().expect("makes a file");
    writeln!(tokens, "alice:{}", "a".repeat(32)).expect("writes");
    let tokens = format!("--token-file={}", tokens.path().display());
    check(&["--sink=memory:", "--admin-listen=0.0.0.0:0", &tokens]).assert_ok();
    let socket = directory.path().join("peer.sock");
    let listen = format!("--listen=unix:{}", socket.display());
    check(&["--sink=memory:", "--admin-listen=127.0.0.1:0", &listen]).assert_ok();
    assert!(!socket.exists());
}

#[test]
fn missing_store_with_copies_is_opened_as_by_a_start() {
    let directory = directory();
    let store = directory.path().join("events");
    let beside = |suffix: &str| directory.path().join(format!("events{suffix}"));
    let sink = format!("--sink=sqlite:{}", store.display());
    fs::write(beside("-wal"), "frames").expect("writes");
    let output = check(&[&sink]);
    assert!(output.assert_failed(1).contains("-wal"), "{output:?}");
    fs::remove_file(beside("-wal")).expect("removes");
    let mut peer = Peer::start();
    peer.put("key1", "1").assert_created();
    peer.signal(Signal::TERM);
    peer.wait();
    fs::copy(peer.file("alldata.db"), beside(".rescued-2")).expect("copies");
    let output = check(&[&sink]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stderr.contains("was restored"), "{output:?}");
    assert!(!output.stdout.contains("creates"), "{output:?}");
    assert!(store.exists() && !beside(".rescued-2").exists());
    fs::rename(&store, beside(".rescued")).expect("renames");
    fs::copy(beside(".rescued"), beside(".rescued-2")).expect("copies");
    let output = check(&[&sink]);
    assert!(output.assert_failed(1).contains("2 copies"), "{output:?}");
}
