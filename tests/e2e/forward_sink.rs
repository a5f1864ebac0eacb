//! The sink `forward`, composed and served: its settings, its requests, and the meaning of each response.
//!
//! Missing responses are in `forward_faults`, several peers in `forward_order`.

use rustix::process::Signal;

use crate::support::{Peer, PeerBuilder, ScriptedPeer};

/// An event of 12 MiB: more than sockets buffer while nobody reads.
pub(crate) fn large_event() -> String {
    format!("\"{}\"", "é".repeat(12 << 19))
}

/// A server that forwards to this URL.
pub(crate) fn to(url: &str) -> PeerBuilder {
    Peer::composed_with("forward").env(&format!("ALLDATA_PEER_FORWARD_URL={url}"))
}

#[test]
fn another_peer_takes_events_byte_for_byte_and_says_so() {
    let (store, event) = (Peer::start(), "{ \"é\":\t[1.50, 1e400, \"\\ud800\"]}");
    let peer = to(&store.url()).start();
    let large = large_event();
    for (key, event) in [
        ("key1", event),
        ("\\u0001\\\"é/", "null"),
        ("large", &large),
    ] {
        peer.put(key, event).assert_created();
        peer.put(key, event).assert_created();
        let detail = peer.put(key, "1").assert_is(409, "Conflict", "no", false);
        assert!(detail.contains("different event"), "{detail}");
    }
    assert_eq!(store.get("key1"), format!("{event}\n"));
    assert_eq!(store.get("\u{1}\"é/"), "null\n");
    assert!(store.get("large") == format!("{large}\n"));
    assert!(!peer.file("alldata.db").exists());
}

#[test]
fn put_is_one_post_with_its_length() {
    let store = ScriptedPeer::answering("201 Created");
    let url = format!("http://{}/a/_put?b=c", store.address());
    let peer = to(&url).start();
    let event = "{ \"é\":\t[1.50, 1e400, \"\\ud800\"]}";
    peer.put("\\u0041\\n", event).assert_created();
    let request = store.request();
    assert_eq!(
        request.head.lines().next(),
        Some("POST /a/_put?b=c HTTP/1.1")
    );
    let body = format!("{{\"key\":\"A\\n\",\"event\":{event}}}");
    assert_eq!(String::from_utf8_lossy(&request.body), body);
    let length = body.len().to_string();
    for (name, value) in [
        ("host", Some(&*store.address().to_string())),
        ("content-length", Some(&length)),
        ("content-type", Some("application/json")),
        ("transfer-encoding", None),
        ("authorization", None),
        ("expect", None),
    ] {
        assert_eq!(request.header(name), value, "{name}");
    }
    assert_eq!(store.more_requests(), 0);
}

#[test]
fn token_is_sent_and_not_shown() {
    let token = "Zm9v.-_~+/bar==";
    let store = ScriptedPeer::start(|exchange| {
        let status = exchange.read_body().key();
        exchange.answer(&status, "", "");
    });
    let mut peer = to(&store.url())
        .env("ALLDATA_PEER_FORWARD_TOKEN")
        .own_env("ALLDATA_PEER_FORWARD_TOKEN", token)
        .own_env("RUST_LOG", "debug")
        .start();
    for (status, expected) in [("201 A", 201), ("401 B", 500), ("500 C", 500)] {
        let answer = peer.put(status, "1");
        assert_eq!(answer.status, expected);
        assert!(!answer.text().contains(token), "{}", answer.text());
        let authorization = format!("Bearer {token}");
        assert_eq!(
            store.request().header("authorization"),
            Some(&*authorization)
        );
    }
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    let log = peer.rest_of_stderr();
    assert!(log.iter().any(|line| line.contains("401")), "{log:?}");
    let shown = log.iter().find(|line| line.contains("Zm9v"));
    assert_eq!(shown, None);
}

#[test]
fn each_answer_is_mapped_back() {
    let store = ScriptedPeer::start(|exchange| {
        let status = exchange.read_body().key();
        let problem = "{\"title\":\"a\",\"detail\":\"No é.\"}";
        exchange.answer(&status, "Retry-After: 7\r\n", problem);
    });
    let peer = to(&store.url()).start();
    peer.put("201 Created", "1").assert_created();
    let unavailable = ("Service Unavailable", "no", true);
    for (status, expected, (title, stored, retry)) in [
        ("409 Conflict", 409, ("Conflict", "no", false)),
        (
            "422 Unprocessable Content",
            422,
            ("Unprocessable Content", "no", false),
        ),
        (
            "400 Bad Request",
            422,
            ("Unprocessable Content", "no", false),
        ),
        (
            "413 Content Too Large",
            422,
            ("Unprocessable Content", "no", false),
        ),
        ("503 Service Unavailable", 503, unavailable),
        ("429 Too Many Requests", 503, unavailable),
        ("408 Request Timeout", 503, unavailable),
        (
            "504 Gateway Timeout",
            504,
            ("Gateway Timeout", "unknown", true),
        ),
        (
            "500 Internal Server Error",
            500,
            ("Internal Server Error", "unknown", true),
        ),
        (
            "404 Not Found",
            500,
            ("Internal Server Error", "unknown", true),
        ),
        (
            "301 Moved Permanently",
            500,
            ("Internal Server Error", "unknown", true),
        ),
        ("200 OK", 500, ("Internal Server Error", "unknown", true)),
    ] {
        let answer = peer.put(status, "1");
        let detail = answer.assert_is(expected, title, stored, retry);
        match expected {
            422 => assert_eq!(detail, "No é.", "{status}"),
            503 => assert_eq!(answer.header("retry-after"), Some("7"), "{status}"),
            500 => {
                assert!(detail.contains("log"), "{detail}");
                let line = peer.log_line("sink forward: ");
                let reason = format!("{}: {}: No é.", store.url(), &status[..3]);
                assert!(line.contains(&reason), "{line}");
            }
            _ => {}
        }
    }
    assert_eq!(store.more_requests(), 13);
}

#[test]
fn invalid_setting_fails_with_its_reason_in_the_log() {
    let url = "ALLDATA_PEER_FORWARD_URL=http://127.0.0.1:1/";
    for (variables, reason) in [
        (&["A=b"][..], "ALLDATA_PEER_FORWARD_URL is not set"),
        (
            &["ALLDATA_PEER_FORWARD_URL=127.0.0.1:1"],
            "its URL number 1 is not http://HOST",
        ),
        (
            &["ALLDATA_PEER_FORWARD_URL=http://a@b/"],
            "its URL number 1 is not http://HOST",
        ),
        (
            &["ALLDATA_PEER_FORWARD_URL=http://a,"],
            "its URL number 2 is not http://HOST",
        ),
        (
            &[url, "ALLDATA_PEER_FORWARD_TIMEOUT_MS=soon"],
            "is \"soon\", but must be 1 to 3600000",
        ),
        (
            &[url, "ALLDATA_PEER_FORWARD_TIMEOUT_MS=0"],
            "is \"0\", but must be 1 to 3600000",
        ),
        (
            &[url, "ALLDATA_PEER_FORWARD_TOKEN=geheim geheim"],
            "characters that no bearer token has",
        ),
    ] {
        let builder = Peer::composed_with("forward");
        let peer = variables
            .iter()
            .fold(builder, |builder, variable| builder.env(variable));
        let peer = peer.start();
        let detail = peer.put("key1", "1").detail(500);
        assert!(
            detail.contains("log") && !detail.contains("FORWARD"),
            "{detail}"
        );
        let line = peer.log_line("sink forward: ");
        assert!(line.contains(reason) && !line.contains("geheim"), "{line}");
    }
}
