//! A reused instance keeps nothing from one request to the next.
//!
//! When an instance is replaced is in `instances`.

use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use alldata_peer_server_http::{Limits, PeerServer, PeerServerBuilder, PutError};

use crate::support::{Answer, DEADLINE, Embedded, Post, handler_only};

/// The number of requests to a server.
const REQUESTS: usize = 240;

/// A word that is in one request only.
fn secret(number: usize) -> String {
    format!("s3cr3t-{number:04}-\u{e9}\u{1F600}")
}

/// Requests of alternating sizes, so that remains of one would show in the next.
fn request(number: usize) -> Post {
    let secret = secret(number);
    let many = |bytes: usize| secret.repeat(bytes / secret.len());
    let large = |bytes: usize| format!("[\"{}\", {number}]", many(bytes));
    match number % 12 {
        0 => Post::put(&format!("key-{secret}"), &format!("\"{secret}\"")),
        1 => Post::new(format!("{{\"key\":\"{secret}\",\"event\":{secret}")),
        2 => Post::put(&many(1000), "1"),
        3 => Post::put(&format!("large-{secret}"), &large(300_000)),
        4 => Post::put("k", "1"),
        5 => Post::put(&format!("refused-{secret}"), &large(100)),
        6 => Post::new(many(200_000)),
        7 => Post::new(format!(
            "{{\"key\":\"\\u00e9\\ud83d\\ude00{secret}\",\"event\":1}}"
        )),
        8 => Post::put(
            &format!("larger-{secret}"),
            &large(700_000 * (1 + number % 5)),
        ),
        9 => Post::new("{"),
        10 => Post::put(&many(1200), &large(60_000)),
        _ => chunked(&large(400_000 + number), &secret),
    }
}

/// A put in chunks of any size, some of hundreds of kilobytes.
fn chunked(event: &str, key: &str) -> Post {
    let body = format!("{{\"event\":{event},\"key\":\"chunks-{key}\"}}");
    let (first, rest) = body.as_bytes().split_at(7);
    let (second, third) = rest.split_at(rest.len() / 4);
    Post::chunks(&[first, second, third])
}

/// A server whose sink refuses some keys with a reason, and reports all puts to the test.
fn serve(builder: PeerServerBuilder) -> (Embedded, Receiver<(String, String)>) {
    let (sender, puts) = mpsc::channel();
    let builder = builder.on_put(move |key, event| {
        sender.send((key.clone(), event.clone())).expect("is read");
        async move {
            match key.strip_prefix("refused-") {
                Some(rest) => Err(PutError::Rejected(format!("Not {rest} of {event}."))),
                None => Ok(()),
            }
        }
    });
    (Embedded::start(builder), puts)
}

/// Sends all requests, and asserts that no response contains a part of another request. Returns the responses
/// and the puts.
fn send_all(builder: PeerServerBuilder) -> (Vec<Answer>, Vec<(String, String)>) {
    let (server, puts) = serve(builder);
    let mut connection = server.connect();
    let answers = (0..REQUESTS).map(|number| {
        let start = Instant::now();
        let mut answer = connection.ask(&request(number));
        // A guest that is called through `wasi:http` may keep its permit a little longer than until its
        // response.
        while answer.status == 503 {
            assert!(start.elapsed() < DEADLINE, "there is never a place");
            // The same after a chunked body that was not read.
            if answer.header("connection") == Some("close") {
                connection = server.connect();
            }
            answer = connection.ask(&request(number));
        }
        let text = answer.text();
        assert!(
            !text.replace(&secret(number), "").contains("s3cr3t"),
            "{text}"
        );
        answer.headers.retain(|(name, _)| name != "date");
        answer
    });
    (answers.collect(), puts.try_iter().collect())
}

#[test]
fn reused_instance_answers_and_puts_like_fresh_ones() {
    let fresh = send_all(PeerServer::builder().limits(Limits {
        max_instance_reuse_count: 1,
        ..Limits::default()
    }));
    let statuses: Vec<u16> = fresh.0[..12].iter().map(|answer| answer.status).collect();
    let expected = [201, 400, 201, 201, 201, 422, 400, 201, 201, 400, 400, 201];
    assert_eq!(statuses, expected);
    for number in (0..REQUESTS).filter(|number| number % 12 == 0) {
        let key = format!("key-{}", secret(number));
        let event = format!("\"{}\"", secret(number));
        assert!(fresh.1.contains(&(key, event)), "{number}");
    }
    // A permit for only one of them at a time.
    let builders = [
        PeerServer::builder(),
        PeerServer::builder().compiled_component(handler_only()),
    ];
    for kept in builders.map(|builder| {
        send_all(builder.limits(Limits {
            max_concurrent_requests: 1,
            ..Limits::default()
        }))
    }) {
        for (number, answers) in kept.0.iter().zip(&fresh.0).enumerate() {
            assert_eq!(comparable(answers.0), comparable(answers.1), "{number}");
        }
        assert!(kept.1 == fresh.1, "other puts reached the sink");
    }
}

/// A status, its fields sorted by name, and a body.
fn comparable(answer: &Answer) -> (u16, Vec<&(String, String)>, String) {
    let mut headers: Vec<_> = answer.headers.iter().collect();
    headers.sort();
    (answer.status, headers, answer.text())
}

/// The bytes of an aborted request are in no buffer that the next body uses.
#[test]
fn bytes_of_aborted_body_are_in_no_later_put() {
    let (server, puts) = serve(PeerServer::builder().limits(Limits {
        max_concurrent_requests: 1,
        ..Limits::default()
    }));
    for number in 0..20 {
        let whole = Post::put(
            &secret(number),
            &format!("\"{}\"", "s3cr3t".repeat(number * 9000)),
        );
        let whole = whole.bytes();
        let mut cut = server.connect();
        cut.try_send(&whole[..whole.len() - 2]).finish().rest();
        server.put("short", "1").assert_created();
        let put = puts.try_recv().expect("is put");
        assert_eq!(put, ("short".to_owned(), "1".to_owned()));
    }
    assert!(puts.try_recv().is_err(), "what was cut off is put");
}
