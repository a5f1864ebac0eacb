//! The program on the command line: its output, its flags and its variables.
//!
//! Its errors are in `command_line_errors`, the effect of a command on a store in `store_commands`.

use std::fs;
use std::net::TcpListener;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Output, Peer, Post, run};

/// A server on a free port.
pub(crate) const SERVE: [&str; 5] = ["serve", "--hostname", "127.0.0.1", "--port", "0"];

#[test]
fn serve_prints_its_address_as_one_line() {
    let mut peer = Peer::start();
    peer.put("key1", "1").assert_created();
    peer.put("key1", "2").assert_problem(409);
    peer.send(&Post::new("nonsense")).assert_problem(400);
    assert!(peer.address().ip().is_loopback() && peer.address().port() != 0);
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    assert_eq!(peer.rest_of_stdout(), [""; 0]);
}

#[test]
fn help_and_version_are_printed() {
    let version = run(&["-V"]);
    let name = format!("alldata-peer {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(version.assert_ok(), name);
    let long = run(&["--version"]);
    let lines: Vec<&str> = long.assert_ok().lines().collect();
    assert_eq!(lines[0], name.trim_end());
    for (line, (start, is_value)) in lines[1..].iter().zip([
        ("commit: ", is_commit as fn(&str) -> bool),
        ("wasmtime: ", is_version),
        ("SQLite: ", is_version),
        ("features: ", |features| features == "admin nats tls"),
    ]) {
        let value = line.strip_prefix(start).expect(line);
        assert!(is_value(value), "{line}");
    }
    assert_eq!(lines.len(), 5);
    let help = run(&["--help"]);
    let commands = [
        "serve",
        "get",
        "export",
        "import",
        "verify",
        "put",
        "component",
    ];
    for command in commands {
        assert!(help.assert_ok().contains(command), "{help:?}");
        let help = run(&[command, "--help"]);
        assert!(help.assert_ok().contains("Usage:"), "{help:?}");
    }
}

#[test]
fn help_names_the_variable_of_each_flag_of_serve() {
    let help = run(&["serve", "--help"]);
    let flags = help.assert_ok().lines().filter_map(|line| {
        let (flag, rest) = line.trim_start().split_once("--")?;
        (flag.is_empty()).then(|| rest.split(' ').next().unwrap_or_default())
    });
    // `--log-format` belongs to every command, `--env` and `--dir` may be repeated, and `--check` is an action.
    let exempt = ["log-format", "env", "dir", "check"];
    let flags: Vec<&str> = flags.filter(|flag| !exempt.contains(flag)).collect();
    assert!(flags.len() >= 5, "{flags:?}");
    for flag in flags {
        let variable = format!("ALLDATA_PEER_{}", flag.to_uppercase().replace('-', "_"));
        assert!(help.stdout.contains(&variable), "{variable}");
    }
}

/// Embedders find each flag in the table that names its counterpart in the library.
#[test]
fn documentation_of_library_has_each_flag_of_serve() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/embedding.md");
    let text = fs::read_to_string(path).expect("reads");
    let section = text.split_once("\n## The flags of the program\n");
    let section = section.expect("has flags").1.split("\n## ").next();
    let table = section.expect("has a beginning");
    let help = run(&["serve", "--help"]).stdout;
    let (flags, _limits) = help.split_once("\nLimits:").expect("has limits");
    let flags = flags.lines().filter_map(|line| {
        let flag = line.trim_start().trim_start_matches("-h, ");
        flag.starts_with("--").then(|| flag.split(' ').next())?
    });
    let flags: Vec<&str> = flags.filter(|flag| *flag != "--help").collect();
    assert!(flags.len() > 15, "{help}");
    for flag in flags {
        assert!(table.contains(&format!("`{flag}`")), "{flag}");
    }
}

#[test]
fn flags_are_read_from_environment() {
    let peer = Peer::from_environment(&[
        ("ALLDATA_PEER_HOSTNAME", "127.0.0.1"),
        ("ALLDATA_PEER_PORT", "0"),
        ("ALLDATA_PEER_SINK", "memory:"),
        ("ALLDATA_PEER_MAX_BODY", "40"),
    ]);
    let peer = peer.start();
    assert!(peer.address().ip().is_loopback(), "the host name is used");
    assert_ne!(peer.address().port(), 8080, "the port is used");
    peer.put("key1", "1").assert_created();
    peer.put("key1", "\"123456789012345678901234567890\"")
        .assert_problem(413);
    assert!(!peer.file("alldata.db").exists(), "the sink is used");
}

#[test]
fn limits_have_units() {
    let limits = ["--max-body", "1K", "--sink-timeout", "1500ms"];
    let peer = Peer::builder().arguments(&limits).start();
    let body = |bytes: usize| {
        let event = "1".repeat(bytes - r#"{"key":"k","event":}"#.len());
        peer.put("k", &event)
    };
    body(1024).assert_created();
    body(1025).assert_problem(413);
    for (limit, value, reason) in [
        ("--max-body", "1MB", "such as 4096, 64K, 16M or 1G"),
        ("--max-body", "17M", "17M is not in 1..=16M"),
        ("--max-header-size", "1G", "1G is not in 1..=1M"),
        ("--max-buffered-bytes", "99999999999G", "such as 4096"),
        ("--sink-timeout", "1x", "such as 30, 1500ms, 90s, 5m or 1h"),
        ("--sink-timeout", "2h", "7200s is not in 1s..=3600s"),
        ("--sink-timeout", "999ms", "999ms is not in 1s..=3600s"),
    ] {
        let output = run(&[&SERVE[..], &[limit, value]].concat());
        let sentence = output.assert_failed(2);
        assert!(sentence.contains(reason), "{value}: {sentence}");
    }
}

#[test]
fn timeouts_and_limits_are_read_from_environment() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("binds");
    let sink = format!("http://{}/", silent.local_addr().expect("is bound"));
    let mut peer = Peer::from_environment(&[
        ("ALLDATA_PEER_HOSTNAME", "127.0.0.1"),
        ("ALLDATA_PEER_PORT", "0"),
        ("ALLDATA_PEER_SINK", &sink),
        ("ALLDATA_PEER_SINK_TIMEOUT", "1"),
        ("ALLDATA_PEER_BODY_TIMEOUT", "1"),
        ("ALLDATA_PEER_DRAIN_TIMEOUT", "1"),
        ("ALLDATA_PEER_MAX_CONCURRENT_REQUESTS", "2"),
        ("ALLDATA_PEER_MAX_INSTANCE_REUSE_COUNT", "1"),
        ("ALLDATA_PEER_LOG_FORMAT", "json"),
    ])
    .start();
    peer.put("key1", "1").assert_problem(504);
    let mut connection = peer.connect();
    connection.send(Post::put("key1", "1").head());
    connection.answer().assert_problem(408);
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    assert_json(&peer.rest_of_stderr());
}

#[test]
fn flag_overrides_its_variable() {
    let peer = Peer::from_environment(&[
        ("ALLDATA_PEER_HOSTNAME", "nothing.invalid"),
        ("ALLDATA_PEER_PORT", "0"),
        ("ALLDATA_PEER_SINK", "memory:"),
    ]);
    let peer = peer.arguments(&["--hostname", "127.0.0.1"]).start();
    peer.put("key1", "1").assert_created();
}

#[test]
fn variables_are_validated_like_flags() {
    let variables = [
        ("ALLDATA_PEER_PORT", "65536"),
        ("ALLDATA_PEER_SINK", "cloud:"),
        ("ALLDATA_PEER_MAX_BODY", "0"),
        ("ALLDATA_PEER_BODY_TIMEOUT", "soon"),
        ("ALLDATA_PEER_SINK_TIMEOUT", "0"),
        ("ALLDATA_PEER_DRAIN_TIMEOUT", "-1"),
        ("ALLDATA_PEER_MAX_CONCURRENT_REQUESTS", "0"),
        ("ALLDATA_PEER_MAX_INSTANCE_REUSE_COUNT", "0"),
        ("ALLDATA_PEER_LOG_FORMAT", "xml"),
    ];
    for (name, value) in variables {
        let output = Output::with_environment(&["serve"], &[(name, value)]);
        let sentence = output.assert_failed(2);
        assert!(sentence.contains(value), "{name}: {sentence}");
    }
}

#[test]
fn written_component_can_be_served() {
    let directory = directory();
    let file = directory.path().join("peer.wasm").display().to_string();
    assert_eq!(run(&["component", "-o", &file]).assert_ok(), "");
    let built_in = alldata_peer_server_http::BUILT_IN_COMPONENT;
    assert!(fs::read(&file).expect("is there") == built_in);
    let by_flag = Peer::builder().arguments(&["--component", &file]);
    let by_variable =
        Peer::from_environment(&[("ALLDATA_PEER_COMPONENT", &file)]).arguments(&SERVE[1..]);
    for peer in [by_flag, by_variable] {
        let peer = peer.start();
        peer.put("key1", "1").assert_created();
        peer.put("key1", "2").assert_problem(409);
        let got = run(&["get", "key1", "--store", &peer.store()]);
        assert_eq!(got.assert_ok(), "1\n");
    }
}

#[test]
fn json_log_is_one_object_a_line() {
    let mut peer = Peer::builder().arguments(&["--log-format", "json"]).start();
    peer.put("key1", "1").assert_created();
    peer.put("key1", "2").assert_problem(409);
    peer.send(&Post::new("nonsense")).assert_problem(400);
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    assert_json(&peer.rest_of_stderr());
}

#[test]
fn standard_output_has_events_only() {
    let mut peer = Peer::builder().sink("ndjson:-").start();
    // The address was read from standard error.
    peer.put("key1", "{ \"a\":\n1.0 }").assert_created();
    let line = peer.stdout_line();
    assert!(line.contains("1.0"), "{line}");
    let line: Value = serde_json::from_str(&line).expect("is JSON");
    assert_eq!(line, json!({"key": "key1", "event": {"a": 1.0}}));
    for _ in 0..2 {
        peer.put("key2", "2").assert_created();
    }
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    let line = "{\"key\":\"key2\",\"event\":2}";
    assert_eq!(peer.rest_of_stdout(), [line, line]);
}

#[test]
fn appending_isolates_a_torn_line() {
    let sink = "ndjson:events.ndjson";
    let peer = Peer::builder().sink(sink).start();
    let file = peer.file("events.ndjson");
    peer.put("key1", "1").assert_created();
    peer.put("key1", "1").assert_created();
    peer.put("key1", "[\n2,\r\n\"é\"]").assert_created();
    let (_, next) = peer.end(Signal::KILL);
    let mut text = fs::read_to_string(&file).expect("is text");
    let line = "{\"key\":\"key1\",\"event\":1}\n";
    assert!(text.starts_with(&line.repeat(2)), "{text:?}");
    assert_eq!(text.lines().count(), 3, "{text:?}");
    text += "{\"key\":\"to";
    fs::write(&file, &text).expect("is written");
    let mut peer = next.sink(sink).start();
    peer.put("key2", "2").assert_created();
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    text += "\n{\"key\":\"key2\",\"event\":2}\n";
    assert_eq!(fs::read_to_string(&file).expect("is text"), text);
    // The torn line is no event; all others are.
    let store = format!("sqlite:{}", peer.file("b.db").display());
    let imported = run(&["import", file.to_str().expect("is text"), "--store", &store]);
    assert_eq!(imported.code, Some(1));
    assert!(imported.stderr.contains("line 4:"), "{imported:?}");
    let got = run(&["get", "key2", "--store", &store]);
    assert_eq!(got.assert_ok(), "2\n");
}

#[test]
fn peer_forwards_to_another_peer() {
    let other = Peer::start();
    let peer = Peer::builder().sink(&other.url()).start();
    peer.put("key1", "{ \"a\": 1.0 }").assert_created();
    peer.put("key1", "{ \"a\": 1.0 }").assert_created();
    let problem = peer.put("key1", "2").assert_problem(409);
    assert_eq!(problem["retry"], false);
    let got = run(&["get", "key1", "--store", &other.store()]);
    assert_eq!(got.assert_ok(), "{ \"a\": 1.0 }\n");
    assert!(!peer.file("alldata.db").exists());
}

#[test]
fn forwarding_to_a_stopped_peer_is_503() {
    let nobody = Peer::nobody();
    let peer = Peer::builder().sink(&nobody.url()).start();
    let mut connection = peer.connect();
    for _ in 0..2 {
        let answer = connection.send(Post::put("key1", "1").bytes()).answer();
        let problem = answer.assert_problem(503);
        assert_eq!(problem["stored"], "no");
        assert_eq!(problem["retry"], true);
        let seconds = answer.header("retry-after").map(str::parse::<u32>);
        assert!(matches!(seconds, Some(Ok(1..))), "{answer:?}");
    }
}

#[track_caller]
fn assert_json(lines: &[String]) {
    assert!(!lines.is_empty());
    for line in lines {
        let line: Result<Value, _> = serde_json::from_str(line);
        assert!(line.is_ok_and(|line| line.is_object()), "{lines:?}");
    }
}

pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().expect("makes a directory")
}

/// Builds for development do not have the commit.
fn is_commit(value: &str) -> bool {
    value == "unknown" || value.len() == 12 && value.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_version(value: &str) -> bool {
    let parts: Vec<&str> = value.split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| part.parse::<u32>().is_ok())
}
