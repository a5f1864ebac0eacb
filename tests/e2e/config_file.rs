//! The configuration file of `serve`: its keys, which values win, and errors with their lines.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use crate::support::{Output, Peer, PeerBuilder, run};

/// A directory with a configuration file.
fn directory(text: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("makes a directory");
    fs::write(directory.path().join("peer.toml"), text).expect("writes");
    directory
}

/// A server with this file, on a free port of the loopback interface unless the file says otherwise.
fn server(text: &str) -> PeerBuilder {
    let listen = "hostname = \"127.0.0.1\"\nport = 0\n";
    Peer::from_environment(&[])
        .directory(directory(&format!("{listen}{text}")))
        .arguments(&["--config", "peer.toml"])
}

/// The output of a server whose start fails.
fn failing(text: &str, variables: &[(&str, &str)]) -> Output {
    let directory = directory(text);
    let path = directory.path().join("peer.toml");
    let path = path.to_str().expect("is text");
    let mut output = Output::with_environment(&["serve", "--config", path], variables);
    output.stderr = output.stderr.replace(path, "peer.toml");
    output
}

#[test]
fn file_sets_flags_of_each_type() {
    let peer = server(
        "sink = \"memory:\"\nmax-body = \"1K\"\nidle-timeout = 60\nverify-store = true\nlog-format = \"json\"\n",
    );
    let peer = peer.start();
    let line = peer.log_line("serving");
    for text in [
        "\"limits\":\"--idle-timeout=60 --max-body=1K\"",
        "\"sink\":\"memory:\"",
        "\"config\":\"peer.toml\"",
    ] {
        assert!(line.contains(text), "{text}: {line}");
    }
    let event = format!("\"{}\"", "x".repeat(1024));
    peer.put("key1", &event).assert_problem(413);
    peer.put("key1", "1").assert_created();
}

#[test]
fn variable_names_the_file() {
    let peer = Peer::from_environment(&[("ALLDATA_PEER_CONFIG", "peer.toml")]);
    let text = "hostname = \"127.0.0.1\"\nport = 0\nsink = \"ndjson:events.ndjson\"";
    let peer = peer.directory(directory(text)).start();
    peer.put("key1", "1").assert_created();
    assert!(
        peer.file("events.ndjson").exists(),
        "the sink is that of the file"
    );
    // Relative to the working directory of the server, as a flag.
    Peer::from_environment(&[
        ("ALLDATA_PEER_CONFIG", ""),
        ("ALLDATA_PEER_HOSTNAME", "127.0.0.1"),
    ])
    .arguments(&["--port=0"])
    .start();
}

#[test]
fn flag_wins_over_variable_and_variable_over_file() {
    let text = "max-body = \"1K\"\nmax-queue = 1\nmax-headers = 50\nverify-store = true\n";
    let peer = server(text)
        .own_env("ALLDATA_PEER_MAX_BODY", "2K")
        .own_env("ALLDATA_PEER_MAX_QUEUE", "2")
        .own_env("ALLDATA_PEER_VERIFY_STORE", "no")
        .arguments(&["--max-queue", "3"])
        .start();
    let line = peer.log_line("serving");
    let limits = "limits=\"--max-headers=50 --max-body=2K --max-queue=3\"";
    assert!(line.contains(limits), "{line}");
    // An empty variable counts as unset.
    let peer = server("max-body = \"1K\"")
        .own_env("ALLDATA_PEER_MAX_BODY", "")
        .start();
    assert!(peer.log_line("serving").contains("--max-body=1K"));
}

#[test]
fn invalid_file_is_wrong_usage_with_line() {
    for (text, expected) in [
        (
            "\nmax-body = 0",
            "peer.toml:2: invalid value '0' for '--max-body <BYTES>': 0 is not in 1..=16M",
        ),
        ("max-body = '16X'", "peer.toml:1: invalid value '16X'"),
        ("log-format = 'xml'", "peer.toml:1: invalid value 'xml'"),
        (
            "max-bodi = 1",
            "peer.toml:1: unknown key \"max-bodi\": did you mean \"max-body\"?",
        ),
        (
            "[limits]\nmax-body = 1",
            "peer.toml:1: unknown key \"limits\": the keys are the long flags",
        ),
        (
            "config = 'other.toml'",
            "peer.toml:1: unknown key \"config\"",
        ),
        ("help = true", "peer.toml:1: unknown key \"help\""),
        (
            "max_body = 1",
            "peer.toml:1: unknown key \"max_body\": did you mean \"max-body\"?",
        ),
        (
            "max-body = true",
            "peer.toml:1: \"max-body\" is a boolean, but must be a number or a string with a unit",
        ),
        ("max-body = 1.5", "peer.toml:1: \"max-body\" is a float"),
        (
            "port = '80'",
            "peer.toml:1: \"port\" is a string, but must be a number",
        ),
        (
            "hostname = 1",
            "peer.toml:1: \"hostname\" is an integer, but must be a string",
        ),
        (
            "hostname = ['a']",
            "peer.toml:1: \"hostname\" is an array, but must be a string",
        ),
        (
            "verify-store = 'yes'",
            "peer.toml:1: \"verify-store\" is a string, but must be true or false",
        ),
        (
            "env = 'A=1'",
            "peer.toml:1: \"env\" is a string, but must be an array of strings",
        ),
        (
            "env = ['A=1', 2]",
            "peer.toml:1: \"env\" is an array with an integer",
        ),
        ("# x\nport = 1\nport = 2", "peer.toml:3: duplicate key"),
        ("port = 1\nhostname = 'a", "peer.toml:2: invalid"),
    ] {
        let output = failing(text, &[]);
        let sentence = output.assert_failed(2);
        assert!(sentence.contains(expected), "{text}: {sentence}");
    }
    // Also where the value is overridden.
    let output = failing("max-body = 0", &[("ALLDATA_PEER_MAX_BODY", "1")]);
    output.assert_failed(2);
    // What is wrong between flags is told as on the command line.
    let output = failing("env = ['A=1']", &[]);
    assert!(output.stderr.contains("--component <FILE>"), "{output:?}");
    assert_eq!(output.code, Some(2));
}

#[test]
fn file_that_cannot_be_read_is_named() {
    let output = run(&["serve", "--config", "/nowhere/peer.toml"]);
    let sentence = output.assert_failed(1);
    assert!(
        sentence.contains("/nowhere/peer.toml") && sentence.contains("No such file"),
        "{sentence}"
    );
    // Only `serve` reads it.
    Output::with_environment(
        &["component", "--wit"],
        &[("ALLDATA_PEER_CONFIG", "/nowhere")],
    )
    .assert_ok();
    run(&["serve", "--config", "/nowhere", "--help"]).assert_ok();
}

#[test]
fn readable_file_with_password_is_warned_about() {
    for (mode, is_warned) in [(0o644, true), (0o640, false)] {
        let other = Peer::nobody()
            .url()
            .replace("http://", "http://user:geheim@");
        let directory = directory(&format!("sink = \"{other}\""));
        let permissions = Permissions::from_mode(mode);
        fs::set_permissions(directory.path().join("peer.toml"), permissions)
            .expect("sets the mode");
        let arguments = ["--config", "peer.toml"];
        let peer = Peer::builder().directory(directory).arguments(&arguments);
        let mut peer = peer.start();
        peer.signal(rustix::process::Signal::TERM);
        assert_eq!(peer.wait().code(), Some(0));
        let log = peer.rest_of_stderr().join("\n");
        assert_eq!(log.contains("other users can read it"), is_warned, "{log}");
        assert!(!log.contains("geheim"), "{log}");
    }
}

/// Each key of the example is a flag with that default, and each flag is a key of the example.
#[test]
fn example_has_each_flag_and_is_valid() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/peer.toml");
    let example = fs::read_to_string(path).expect("reads");
    let is_key = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && *line != "#";
    let lines: Vec<&str> = example
        .lines()
        .filter(is_key)
        .map(|line| &line[1..])
        .collect();
    let keys = lines.iter().filter_map(|line| line.split(" = ").next());
    let keys: BTreeSet<String> = keys.map(str::to_owned).collect();
    let help = run(&["serve", "--help"]).stdout;
    let flags = help
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("--"));
    let flags = flags.filter_map(|line| line.split([' ', '=']).next());
    let mut flags: BTreeSet<String> = flags.map(str::to_owned).collect();
    assert!(flags.remove("config") && flags.remove("check"));
    // It excludes the host name and the port, which are in the example.
    assert!(flags.remove("listen") && example.contains("\n# listen = ["));
    assert_eq!(keys, flags);
    // Limits have their defaults, so that they are no change when they are set.
    let limits = lines
        .iter()
        .skip_while(|line| !line.starts_with("max-connections"));
    let limits: Vec<&str> = limits.copied().collect();
    let peer = server(&limits.join("\n")).start();
    let line = peer.log_line("serving");
    assert!(line.contains("limits=\"defaults\""), "{line}");
    // All of it is valid, up to the files, which do not exist.
    let directory = directory(&lines.join("\n"));
    let path = directory.path().join("peer.toml");
    let output = run(&[
        "serve",
        "--check",
        "--config",
        path.to_str().expect("is text"),
    ]);
    assert!(
        output.assert_failed(1).contains("No such file"),
        "{output:?}"
    );
}
