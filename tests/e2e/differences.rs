//! Deliberate differences from the original peer server, row by row of the table in the changelog.
//!
//! Host names, busy ports, a missing sink and closing are in `embedding`, a sink that hangs in `protocol`.

use std::panic::panic_any;
use std::thread;

use alldata_peer_server_http::{PeerServer, PutError};
use rustix::process::Signal;
use tokio::sync::oneshot;

use crate::support::{Embedded, Peer, Post, run};

/// The largest body, in bytes.
const MOST: usize = 16 * 1024 * 1024;

#[test]
fn port_0_is_a_free_port_and_is_reported() {
    let (left, right) = (Peer::start(), Peer::start());
    assert_ne!(left.address(), right.address());
    for peer in [left, right] {
        assert_ne!(peer.address().port(), 8080);
        peer.put("key1", "1").assert_created();
    }
}

#[test]
fn asynchronous_sink_is_answered() {
    let server = Embedded::start(PeerServer::builder().on_put(|key, event| async move {
        let (answer, answered) = oneshot::channel();
        // No response is sent before this put was polled and waits.
        tokio::task::yield_now().await;
        thread::spawn(move || answer.send((key, event)));
        match answered.await {
            Ok((_, event)) if event == "1" => Ok(()),
            Ok(_) => Err(PutError::Conflict),
            Err(error) => Err(PutError::Failed(error.to_string())),
        }
    }));
    server.put("key1", "1").assert_created();
    server.put("key1", "2").assert_problem(409);
}

#[test]
fn character_split_over_two_chunks_is_stored_unchanged() {
    let peer = Peer::start();
    let body = "{\"key\":\"cl\u{e9}\",\"event\":\"\u{20ac}\u{1F600}\"}".as_bytes();
    let within = body
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte & 0xC0 == 0x80);
    for (at, _) in within {
        peer.send(&Post::chunks(&[&body[..at], &body[at..]]))
            .assert_created();
        assert_eq!(peer.get("cl\u{e9}"), "\"\u{20ac}\u{1F600}\"\n");
    }
}

#[test]
fn invalid_utf8_is_400_anywhere() {
    let peer = Peer::start();
    // A lone continuation byte, a truncated character, an overlong one, a surrogate, one beyond U+10FFFF.
    let invalid: [&[u8]; 5] = [
        b"\xFF",
        b"\xE2\x82",
        b"\xC0\xAF",
        b"\xED\xA0\x80",
        b"\xF4\x90\x80\x80",
    ];
    for bytes in invalid {
        let bodies = [
            [b"{\"key\":\"k", bytes, b"\",\"event\":1}"].concat(),
            [b"{\"key\":\"k\",\"event\":\"", bytes, b"\"}"].concat(),
            [b"{\"key\":\"k\",\"event\":1,\"x\":\"", bytes, b"\"}"].concat(),
            [b"{\"key\":\"k\",\"event\":1,\"", bytes, b"\":2}"].concat(),
            [b"{\"key\":\"k\",\"event\":1}", bytes].concat(),
        ];
        for body in bodies {
            let detail = peer.send(&Post::new(body)).detail(400);
            assert!(detail.contains("UTF-8 at line 1 column "), "{detail}");
        }
    }
    // In every lane of the vectors that the component compares, and at the end.
    let mut connection = peer.connect();
    for before in 0..=80 {
        for (bytes, after) in invalid.iter().flat_map(|bytes| [(bytes, 100), (bytes, 0)]) {
            let [before, after] = [before, after].map(|length| "a".repeat(length).into_bytes());
            let text = [&*before, *bytes, &*after].concat();
            let body = [b"{\"key\":\"k\",\"event\":\"", &*text, b"\"}"].concat();
            let detail = connection.ask(&Post::new(body)).detail(400);
            assert!(detail.contains("UTF-8 at line 1 column "), "{detail}");
        }
    }
    assert_eq!(peer.stored(), "");
}

#[test]
fn control_character_in_a_string_is_400_anywhere() {
    let peer = Peer::start();
    let mut connection = peer.connect();
    for offset in 0..=80 {
        let plain = "a".repeat(offset);
        for control in ["\0", "\u{1}", "\n", "\u{1f}"] {
            let event = format!("\"{plain}{control}{plain}a\"");
            let detail = connection.ask(&Post::put("k", &event)).detail(400);
            assert!(detail.contains("is not JSON"), "{detail}");
        }
        // These stand for themselves.
        let event = format!("\"{plain} \u{7f}\u{80}{plain}\"");
        connection
            .ask(&Post::put(&format!("k{offset}"), &event))
            .assert_created();
    }
    assert_eq!(peer.stored().lines().count(), 81);
}

#[test]
fn put_without_key_or_event_never_reaches_sink() {
    let (server, puts) = Embedded::capturing();
    let bodies = [
        "{}",
        "[]",
        "1",
        "null",
        "true",
        "\"k\"",
        "{\"key\":\"k\"}",
        "{\"event\":1}",
        "[{}]",
    ];
    for body in bodies {
        server.send(&Post::new(body)).assert_problem(400);
    }
    puts.try_recv().expect_err("nothing is put");
}

#[test]
fn panicking_sink_is_500_and_next_put_is_served() {
    let server = Embedded::start(PeerServer::builder().on_put(|key, _| {
        assert_ne!(key, "at once", "secret");
        async move {
            tokio::task::yield_now().await;
            match &*key {
                "later" => panic!("secret {key}"),
                "without a text" => panic_any(17),
                _ => Ok(()),
            }
        }
    }));
    let mut connection = server.connect();
    for key in ["at once", "later", "without a text"] {
        let answer = connection.ask(&Post::put(key, "1"));
        let problem = answer.assert_problem(500);
        assert_eq!(problem["stored"], "unknown");
        assert!(!answer.text().contains("secret"), "{}", answer.text());
        connection.ask(&Post::put("key1", "1")).assert_created();
    }
}

#[test]
fn numbers_are_kept_as_written() {
    let peer = Peer::start();
    let numbers = "[12345678901234567890,1e400,-0,0.1000,3.141592653589793238462643,1E-999]";
    peer.put("key1", numbers).assert_created();
    assert_eq!(peer.get("key1"), format!("{numbers}\n"));
    peer.put("key1", &numbers.replace("2643", "2644"))
        .assert_problem(409);
}

#[test]
fn body_limit_cannot_exceed_16_mib() {
    let peer = Peer::start();
    let head = "POST /_put HTTP/1.1\r\nHost: peer\r\nContent-Length: 16777217\r\n\r\n";
    let detail = peer.connect().send(head).answer().detail(413);
    assert!(detail.contains("16777216"), "{detail}");
    let output = run(&[
        "serve",
        "--port",
        "0",
        "--sink",
        "discard:",
        "--max-body",
        "16777217",
    ]);
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stderr.contains("16777217"), "{output:?}");
}

#[test]
fn body_limit_of_16_mib_is_exact() {
    let peer = Peer::start();
    let body = |key: &str, bytes: usize| {
        let around = format!("{{\"key\":\"{key}\",\"event\":\"\"}}").len();
        format!(
            "{{\"key\":\"{key}\",\"event\":\"{}\"}}",
            "x".repeat(bytes - around)
        )
        .into_bytes()
    };
    peer.send(&Post::new(body("sized", MOST))).assert_created();
    let chunks = body("chunks", MOST);
    let parts: Vec<&[u8]> = chunks.chunks(100_000).collect();
    peer.send(&Post::chunks(&parts)).assert_created();
    // The event, its quotes and the line break.
    assert_eq!(
        peer.get("sized").len(),
        MOST - r#"{"key":"sized","event":}"#.len() + 1
    );
    for post in [
        Post::new(body("over", MOST + 1)),
        Post::chunks(&[&body("over", MOST + 1)]),
    ] {
        let detail = peer.send(&post).detail(413);
        assert!(detail.contains("16777216"), "{detail}");
    }
    peer.put("over", "1").assert_created();
}

#[test]
fn conflict_keeps_first_event_across_restart() {
    let peer = Peer::start();
    peer.put("key1", "12345678901234567890").assert_created();
    let holds_the_first = |peer: &Peer| {
        for other in [
            "12345678901234567891",
            "\"12345678901234567890\"",
            "null",
            "[]",
        ] {
            peer.put("key1", other)
                .assert_is(409, "Conflict", "no", false);
        }
        assert_eq!(peer.get("key1"), "12345678901234567890\n");
        peer.put("key1", "12345678901234567890").assert_created();
    };
    holds_the_first(&peer);
    let (_, builder) = peer.end(Signal::TERM);
    holds_the_first(&builder.start());
}

#[test]
fn errors_have_a_body() {
    let peer = Peer::builder().arguments(&["--max-body", "100"]).start();
    peer.put("key1", "1").assert_created();
    peer.send(&Post::new("")).assert_problem(400);
    peer.send(&Post::new("").method("GET")).assert_problem(405);
    peer.put("key1", "2").assert_problem(409);
    peer.put("key1", &"1".repeat(100)).assert_problem(413);
}
