//! Starts: the log line about what is served, colors in the log, and failures.

use std::fs;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{COMPILE_CACHE, Peer, handler_only_file, run, run_by, run_on_terminal, serve};

#[test]
fn start_is_logged_with_component_and_sink() {
    let peer = Peer::start();
    let line = peer.log_line("serving");
    for text in [
        format!("version=\"{}\"", env!("CARGO_PKG_VERSION")),
        format!("sink=\"{}\"", peer.store()),
        "component=\"built-in\"".to_owned(),
        format!("addresses=\"{}\"", peer.address()),
        "limits=\"defaults\"".to_owned(),
    ] {
        assert!(line.contains(&text), "{text}: {line}");
    }
}

#[test]
fn start_is_logged_as_fields_of_json() {
    let component = handler_only_file();
    let file = component.to_str().expect("is text");
    let arguments = [
        "--log-format",
        "json",
        "--sink",
        "ndjson:a/../events",
        "--component",
        file,
    ];
    let defaults = ["--idle-timeout", "75", "--body-timeout", "30000ms"];
    let limits = ["--max-queue", "1", "--max-buffered-bytes", "256MiB"];
    let directory = tempfile::tempdir().expect("makes a directory");
    fs::create_dir(directory.path().join("a")).expect("makes a directory");
    let mut peer = Peer::builder()
        .directory(directory)
        .arguments(&[&arguments[..], &defaults, &limits].concat())
        .own_env("ALLDATA_PEER_MAX_BODY", "100")
        .start();
    let line: Value = serde_json::from_str(&peer.log_line("serving")).expect("is JSON");
    let fields = &line["fields"];
    assert_eq!(line["level"], "INFO");
    let sink = format!("ndjson:{}", peer.file("a/../events").display());
    assert_eq!(fields["sink"], sink);
    assert_eq!(fields["component"], file);
    assert_eq!(
        fields["component_bytes"],
        fs::metadata(component).expect("is there").len()
    );
    assert_eq!(fields["addresses"], peer.address().to_string());
    assert_eq!(fields["limits"], "--max-body=100 --max-queue=1");
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    assert_eq!(peer.rest_of_stdout(), [""; 0]);
}

/// The output of a server on a terminal, which ends after a second.
fn on_terminal(no_color: Option<&str>) -> String {
    let arguments = "serve --hostname 127.0.0.1 --port 0 --sink memory:";
    let text = run_on_terminal("timeout -s TERM 1", arguments, "NO_COLOR", no_color);
    assert!(text.contains("serving"), "{text}");
    text
}

#[test]
fn no_color_turns_colors_off() {
    assert!(on_terminal(None).contains('\u{1b}'));
    assert!(on_terminal(Some("")).contains('\u{1b}'));
    for value in ["1", "0"] {
        let text = on_terminal(Some(value));
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}

/// Opening a pipe without a writer would block, whatever signal arrives.
#[test]
fn pipe_in_place_of_file_is_refused_at_once() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let pipe = directory.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("runs").success());
    let pipe = pipe.display().to_string();
    let component = [&serve("memory:")[..], &["--component", &pipe]].concat();
    let output = run(&component);
    let sentence = output.assert_failed(1);
    assert!(sentence.contains("not a regular file"), "{sentence}");
    for parameter in ["credentials", "nkey", "tls_ca"] {
        let url = format!("nats://127.0.0.1:1/events?{parameter}={pipe}");
        let output = run(&serve(&url));
        let sentence = output.assert_failed(1);
        assert!(sentence.contains("not a regular file"), "{sentence}");
        assert!(sentence.contains(parameter), "{sentence}");
    }
}

#[test]
fn lack_of_threads_is_logged_and_ends_process() {
    // Root has no such limit, but may become a user who has only these processes. Any other user already has
    // more.
    let user = format!("--reuid={}", 3_000_000_000_u32 + std::process::id());
    let user = ["setpriv", &user, "--clear-groups"];
    let is_root = run_by(&user, &["--version"]).code == Some(0);
    let (user, limits) = if is_root {
        (&user[..], 1..=4)
    } else {
        (&[][..], 1..=1)
    };
    for threads in limits {
        let limit = format!("--nproc={threads}");
        let others = ["env", "-u", COMPILE_CACHE, "prlimit", &limit];
        let launcher = [user, &others].concat();
        for arguments in [
            &serve("memory:")[..],
            &["put", "key1", "1", "--to", "http://127.0.0.1:1/"],
        ] {
            let output = run_by(&launcher, arguments);
            assert_eq!(output.code, Some(1), "{output:?}");
            assert!(!output.stderr.contains("panicked"), "{output:?}");
            // jemalloc also reports that it has no background thread.
            let mut lines = output.stderr.lines();
            let sentence = lines.find(|line| line.starts_with("error: "));
            let sentence = sentence.unwrap_or_else(|| panic!("{output:?}"));
            let is_told = sentence.contains("ulimit -u") || sentence.contains("thread");
            // A start that needs no more threads fails for another reason.
            let is_put = arguments[0] == "put" && sentence.contains("not acknowledged");
            assert!(is_told || is_put, "{threads}: {sentence}");
        }
    }
}

/// Otherwise each put would be answered with 500.
#[test]
fn lack_of_address_space_is_logged_at_start() {
    let launcher = ["prlimit", "--as=3221225472"];
    let output = run_by(&launcher, &serve("memory:"));
    assert_eq!(output.code, Some(1), "{output:?}");
    let sentence = output.stderr.lines().last().unwrap_or_default();
    assert!(sentence.contains("it cannot be instantiated"), "{output:?}");
}
