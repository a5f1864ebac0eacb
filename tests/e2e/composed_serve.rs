//! `alldata-peer serve` with a component that has a sink: what it is given, and what must not be.
//!
//! Never composes anything but the program's own sinks.

use std::fs;

use crate::support::{Output, Peer, composed, run};

#[test]
fn a_sink_beside_the_components_own_is_wrong_usage() {
    let component = composed("directory").to_str().expect("is text");
    let arguments = ["serve", "--port", "0", "--component", component];
    let flag = run(&[&arguments[..], &["--sink", "memory:"]].concat());
    assert!(flag.assert_failed(2).contains("a sink of its own"));
    let variable = Output::with_environment(&arguments, &[("ALLDATA_PEER_SINK", "memory:")]);
    assert!(variable.assert_failed(2).contains("ALLDATA_PEER_SINK"));
}

#[test]
fn a_component_with_a_sink_leaves_no_store_behind() {
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
fn the_environment_is_passed_on_only_where_that_is_asked_for() {
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
fn what_a_component_is_to_be_given_is_checked_before_it_starts() {
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
        // What is missing stands in the next line.
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
