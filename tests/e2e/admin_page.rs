//! The page for operators in a real browser, and what it polls.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;

use crate::support::admin::get;
use crate::support::{Peer, can_make, wait_until};

/// A key that would be run by a page that took it for HTML.
const HOSTILE: &str = "<img src=x onerror=document.title=1>";

/// For how many milliseconds of its own clock the browser shows the page.
const BROWSER_MS: u32 = 8000;

fn status(peer: &Peer) -> Value {
    let answer = get(peer.admin(), "/status.json");
    assert_eq!(answer.status, 200);
    serde_json::from_slice(&answer.body).expect("is JSON")
}

/// What the page has become in a browser, with what the browser has logged.
fn browse(address: SocketAddr, profile: &Path) -> (String, String) {
    let chromium = Command::new("chromium")
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args(["--no-first-run", "--enable-logging=stderr", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--virtual-time-budget={BROWSER_MS}"))
        .arg(format!("http://{address}/"))
        .stdin(Stdio::null())
        .output()
        .expect("runs");
    assert!(chromium.status.success());
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(chromium.stdout), text(chromium.stderr))
}

#[test]
fn page_shows_a_server_in_a_browser() {
    let tool = Command::new("chromium").arg("--version").output();
    let missing = "there is no chromium: sudo apt-get install chromium";
    if !can_make("showing the page", tool.is_err().then_some(missing)) {
        return;
    }
    let peer = Peer::builder().admin().sink("memory:").start();
    peer.put(HOSTILE, "1").assert_created();
    peer.put(HOSTILE, "2").assert_problem(409);
    let (address, profile) = (peer.admin(), peer.file("profile"));
    let browsing = thread::spawn(move || browse(address, &profile));
    let mut number = 0;
    wait_until("the browser has ended", || {
        number += 1;
        peer.put(&format!("<b>{number}"), "1").assert_created();
        browsing.is_finished()
    });
    let (page, log) = browsing.join().expect("ends");
    for text in [
        ">ready</p>",
        "<td>conflict",
        "the key already has a different event",
        "&lt;img src=x onerror=document.title=1&gt;",
        "<td>&lt;b&gt;",
        "--max-concurrent-requests",
        "<polyline",
    ] {
        assert!(page.contains(text), "no {text}: {page}");
    }
    assert!(!page.contains("<img") && !page.contains("<b>1"), "{page}");
    // An error of the script, or something that the policy refuses.
    assert!(!log.contains("CONSOLE"), "{log}");
}

#[test]
fn page_loads_nothing_from_elsewhere() {
    let peer = Peer::builder().admin().sink("memory:").start();
    for path in ["/", "/page.css", "/page.js"] {
        let file = get(peer.admin(), path);
        assert_eq!(file.status, 200, "{path}");
        let policy = file.header("content-security-policy").expect("is there");
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
        let text = file.text().replace("http://www.w3.org/2000/svg", "");
        assert!(
            !text.contains("http:") && !text.contains("https:"),
            "{path}"
        );
    }
}

#[test]
fn events_are_recorded_once_somebody_looks() {
    let peer = Peer::builder().admin().sink("memory:").start();
    peer.put("unseen", "1").assert_created();
    assert_eq!(status(&peer)["events"], serde_json::json!([]));
    peer.put("seen", "\"secret\"").assert_created();
    peer.put("seen", "2").assert_problem(409);
    let status = status(&peer);
    let events = status["events"].as_array().expect("are some");
    assert_eq!(events.len(), 1, "{status}");
    assert_eq!(
        (&events[0]["key"], &events[0]["bytes"]),
        (&"seen".into(), &8.into())
    );
    assert!(!status.to_string().contains("secret"), "{status}");
    let problem = &status["problems"][0];
    assert_eq!(
        (&problem["reason"], &problem["key"]),
        (&"conflict".into(), &"seen".into())
    );
}

#[test]
fn events_are_shown_if_asked_for() {
    let peer = Peer::builder().admin().sink("memory:");
    let peer = peer.arguments(&["--admin-show-events"]).start();
    status(&peer);
    peer.put("key1", "{\"a\": 1}").assert_created();
    assert_eq!(status(&peer)["events"][0]["event"], "{\"a\": 1}");
}

#[test]
fn status_has_limits_with_their_use() {
    let peer = Peer::builder().admin().start();
    let status = status(&peer);
    let limits = status["limits"].as_array().expect("are some");
    let flags: Vec<&str> = limits
        .iter()
        .filter_map(|limit| limit["flag"].as_str())
        .collect();
    for flag in [
        "--max-connections",
        "--max-concurrent-requests",
        "--max-buffered-bytes",
        "--max-queue",
        "--max-wal",
    ] {
        assert!(flags.contains(&flag), "no {flag}: {flags:?}");
    }
    assert!(
        limits.iter().all(|limit| limit["limit"].as_u64() > Some(0)),
        "{status}"
    );
}
