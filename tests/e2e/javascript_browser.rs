//! The npm package in a browser: its page, with a service worker and IndexedDB.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::request_table::MALFORMED;
use crate::support::{JavaScriptPeer, Peer, Post, can_make, installed_package};

/// Uses the page by the protocol of the browser's developer tools.
const DRIVER: &str = include_str!("../runtimes/browser.mjs");

#[test]
fn page_keeps_events_when_the_browser_is_killed() {
    let chromium = Command::new("chromium").arg("--version").output();
    let missing = chromium
        .err()
        .map(|_| "there is no chromium: sudo apt-get install chromium");
    if !can_make("a peer in a browser", missing) {
        return;
    }
    let directory = tempfile::tempdir().expect("makes a directory");
    let profile = directory.path().join("profile");
    let bodies = directory.path().join("bodies.json");
    // A page sends text.
    let texts = MALFORMED.iter().map(|(body, _)| str::from_utf8(body));
    let texts: Vec<&str> = texts.filter_map(Result::ok).collect();
    fs::write(&bodies, serde_json::to_string(&texts).expect("is JSON")).expect("is written");
    let package = installed_package();
    let arguments = [&profile, &package, &bodies];
    let arguments = arguments.map(|path| path.to_str().expect("is text"));
    let page = JavaScriptPeer::run_with("browser.mjs", DRIVER, &arguments);
    page.output_line("state ready");
    let stored = "events 20130927T005240652508858176\t{\"a\": 1}";
    for status in ["201", "201", "409"] {
        let line = page.output_line("put ");
        assert!(line.starts_with(&format!("put {status} ")), "{line}");
    }
    assert_eq!(page.output_line("events "), stored);
    // Reloaded without the service worker.
    let line = page.output_line("put ");
    assert!(line.starts_with("put 409 "), "{line}");
    // Killed, and started again.
    assert_eq!(page.output_line("events "), stored);
    let line = page.output_line("put ");
    assert!(
        line.starts_with("put 409 ") && line.contains("stays"),
        "{line}"
    );
    let native = Peer::start();
    for text in texts {
        let line = page.output_line("response ");
        let response: Value = serde_json::from_str(&line["response ".len()..]).expect("is JSON");
        let expected = native.send(&Post::new(text));
        assert_eq!(response[0], expected.status, "{text}");
        assert_eq!(response[1], expected.text(), "{text}");
    }
}
