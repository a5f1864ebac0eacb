//! `alldata-peer serve` with a component that has a sink: its variables and directories, and the flags that are
//! refused.

use std::fs;
use std::process::Command;

use crate::support::{EventFiles, Output, Peer, composed, run};

#[test]
fn sink_flag_with_composed_component_is_wrong_usage() {
    let component = composed("directory").to_str().expect("is text");
    let arguments = ["serve", "--port", "0", "--component", component];
    let flag = run(&[&arguments[..], &["--sink", "memory:"]].concat());
    assert!(flag.assert_failed(2).contains("a sink of its own"));
    let variable = Output::with_environment(&arguments, &[("ALLDATA_PEER_SINK", "memory:")]);
    assert!(variable.assert_failed(2).contains("ALLDATA_PEER_SINK"));
}

#[test]
fn composed_component_leaves_no_store() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let name = directory.path().to_str().expect("is text");
    let peer = Peer::composed_with("directory")
        .arguments(&["--dir", &format!("{name}::/events")])
        .env("ALLDATA_PEER_DIRECTORY")
        .own_env("ALLDATA_PEER_DIRECTORY", "/events")
        .start();
    peer.put("key1", "1").assert_created();
    assert!(
        directory.path().join("tmp").exists(),
        "the variable is passed on"
    );
    let files = fs::read_dir(peer.file(".")).expect("lists");
    assert_eq!(files.count(), 0);
}

#[test]
fn environment_is_passed_to_component_only_on_request() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let name = directory.path().to_str().expect("is text");
    let peer = Peer::composed_with("directory")
        .arguments(&["--dir", name])
        .own_env("ALLDATA_PEER_DIRECTORY", name)
        .start();
    peer.put("key1", "1").assert_problem(500);
    peer.log_line("ALLDATA_PEER_DIRECTORY is not set");
}

#[test]
fn env_and_dir_are_validated_before_start() {
    let component = composed("directory").to_str().expect("is text");
    let with: [&[&str]; 6] = [
        &["--env", "ALLDATA_PEER_TEST_NOT_SET"],
        &["--env", "=value"],
        &["--env", ""],
        &["--dir", ""],
        &["--dir", "::/events"],
        &["--dir", ".::"],
    ];
    let serve = ["serve", "--hostname", "127.0.0.1", "--port", "0"];
    for arguments in with {
        let output = run(&[&serve[..], &["--component", component], arguments].concat());
        let sentence = output.assert_failed(2);
        assert!(sentence.contains(arguments[0]), "{sentence}");
    }
    for arguments in [["--env", "A=b"], ["--dir", "."]] {
        let output = run(&[&serve[..], &arguments].concat());
        output.assert_failed(2);
        // The next line of the log names the missing setting.
        assert!(output.stderr.contains("--component <FILE>"), "{output:?}");
    }
    for missing in ["/nowhere/events", component] {
        let arguments = ["--component", component, "--dir", missing];
        let output = run(&[&serve[..], &arguments].concat());
        let sentence = output.assert_failed(1);
        assert!(
            sentence.contains(&format!("the directory {missing}")),
            "{sentence}"
        );
    }
}

/// A pipe at the path of an event's file blocks the sink without end, like a disk that hangs.
#[test]
fn hanging_component_is_504_and_releases_its_slot() {
    let events = EventFiles::new();
    let place = events.place("hangs");
    fs::create_dir_all(place.parent().expect("is below")).expect("makes a directory");
    let made = Command::new("mkfifo").arg(&place).status();
    assert!(made.expect("runs").success());
    let limits = [
        "--body-timeout",
        "1",
        "--sink-timeout",
        "1",
        "--max-concurrent-requests",
        "1",
    ];
    let peer = events.serve().arguments(&limits).start();
    for _ in 0..2 {
        let answer = peer.put("hangs", "1");
        answer.assert_is(504, "Gateway Timeout", "unknown", true);
        peer.log_line("did not complete the put in time");
    }
    peer.put("key1", "1").assert_created();
}

/// Two directories would be two stores. With an instance for each request the fault would show at once, with a
/// reused one later.
#[test]
fn duplicate_directory_name_is_refused() {
    let events = EventFiles::new();
    let inner = events.root().join("inner");
    fs::create_dir(&inner).expect("makes a directory");
    let dir = format!("{}::/events", inner.display());
    let peer = Peer::composed_with("directory")
        .arguments(&["--dir", &dir, "--max-instance-reuse-count", "1"])
        .env("ALLDATA_PEER_DIRECTORY=/events")
        .start();
    peer.put("key1", "1").assert_created();
    let moved = events.root().join("moved");
    fs::rename(&inner, &moved).expect("is moved");
    fs::create_dir(&inner).expect("makes a directory");
    peer.put("key1", "2").assert_problem(500);
    peer.log_line("is not the one that it was at the start");
    fs::remove_dir(&inner).expect("is removed");
    fs::rename(&moved, &inner).expect("is moved back");
    peer.put("key1", "2").assert_problem(409);
}
