//! The line of the log that says what `serve` runs, and whether the log has colors.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Peer, handler_only_file, run_on_terminal};

#[test]
fn start_is_logged_with_what_is_run() {
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
    let limits = ["--max-queue", "1", "--max-bodies", "256MiB"];
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

/// What a server writes to a terminal that ends after a second.
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
