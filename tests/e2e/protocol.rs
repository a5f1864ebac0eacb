//! The wire protocol: valid and invalid requests, and every row of the table of responses.
//!
//! The transfer of requests is in `connections`, differences from the original peer server in `differences`.

use std::time::Duration;

use alldata_peer_server_http::{Limits, PeerServer, PutError};

use crate::request_table::MALFORMED;
use crate::support::{Answer, Embedded, Peer, Post};

#[track_caller]
fn assert_malformed(answer: &Answer) -> String {
    answer.assert_is(400, "Bad Request", "no", false)
}

#[test]
fn stored_event_is_201() {
    let peer = Peer::start();
    let key = "20130927T005240652508858176";
    let event = r#"{"customer": 1, "action": "site visit"}"#;
    peer.put(key, event).assert_created();
    assert_eq!(peer.get(key), format!("{event}\n"));
}

#[test]
fn repeated_put_is_201_and_changes_nothing() {
    let peer = Peer::start();
    for event in ["[1, 2.50]", "[1, 2.50]", " [1, 2.50]\n", "[1,2.50]"] {
        peer.put("key1", event).assert_created();
    }
    assert_eq!(peer.stored(), "{\"key\":\"key1\",\"event\":[1, 2.50]}\n");
}

#[test]
fn method_other_than_post_is_405_and_puts_nothing() {
    let peer = Peer::start();
    for method in "GET PUT DELETE PATCH OPTIONS TRACE QUERY post POSTS".split(' ') {
        let answer = peer.send(&Post::put("key1", "1").method(method));
        answer.assert_is(405, "Method Not Allowed", "no", false);
        assert_eq!(answer.header("allow"), Some("POST"), "{method}");
        let answer = peer.send(&Post::new("").method(method));
        answer.assert_is(405, "Method Not Allowed", "no", false);
    }
    assert_eq!(peer.stored(), "");
}

#[test]
fn head_method_is_405_without_body() {
    let peer = Peer::start();
    let mut connection = peer.connect();
    for post in [Post::new(""), Post::put("key1", "1")] {
        let answer = connection
            .send(post.method("HEAD").bytes())
            .answer_to_head();
        assert_eq!(answer.status, 405);
        assert_eq!(answer.header("allow"), Some("POST"));
        assert!(answer.header("content-length").is_some());
    }
    // A body would precede this response.
    connection.ask(&Post::put("key1", "2")).assert_created();
}

#[test]
fn invalid_body_is_400_with_reason_and_position() {
    let peer = Peer::start();
    let mut connection = peer.connect();
    for (body, reason) in MALFORMED {
        let answer = connection.ask(&Post::new(*body));
        let detail = assert_malformed(&answer);
        let body = String::from_utf8_lossy(body);
        assert!(
            detail.contains(reason),
            "{body:?}: no {reason:?} in {detail:?}"
        );
    }
    assert_eq!(peer.stored(), "");
}

#[test]
fn body_over_limit_is_413_and_at_limit_is_201() {
    let peer = Peer::builder().arguments(&["--max-body", "1000"]).start();
    let body = |bytes: usize| {
        let empty = r#"{"key":"key1","event":""}"#.len();
        Post::put("key1", &format!("\"{}\"", "x".repeat(bytes - empty)))
    };
    let answer = peer.send(&body(1001));
    let detail = answer.assert_is(413, "Content Too Large", "no", false);
    assert!(detail.contains("1000"), "{detail}");
    assert_eq!(peer.stored(), "");
    peer.send(&body(1000)).assert_created();
}

#[test]
fn late_body_is_408_and_not_put() {
    let peer = Peer::builder().arguments(&["--body-timeout", "1"]).start();
    let request = Post::put("key1", "1").bytes();
    let mut connection = peer.connect();
    let answer = connection.send(&request[..request.len() - 1]).answer();
    answer.assert_is(408, "Request Timeout", "no", true);
    connection.try_send(&request[request.len() - 1..]).rest();
    assert_eq!(peer.stored(), "");
}

#[test]
fn event_rejected_by_sink_is_422_with_reason() {
    let reason = "A \"customer\" is a number \\ not a nämé \u{1F600}.";
    let answer = Embedded::failing(PutError::Rejected(reason.to_owned())).put("key1", "1");
    let detail = answer.assert_is(422, "Unprocessable Content", "no", false);
    assert_eq!(detail, reason);
}

#[test]
fn failing_sink_is_500_without_internals() {
    let server = Embedded::failing(PutError::Failed("password at /etc/secret".to_owned()));
    for _ in 0..2 {
        let answer = server.put("key1", "1");
        answer.assert_is(500, "Internal Server Error", "unknown", true);
        assert!(!answer.text().contains("secret"), "{}", answer.text());
    }
}

#[test]
fn unavailable_sink_is_503_with_retry_after() {
    for retry_after_seconds in [0, 1, 17, u32::MAX] {
        let server = Embedded::failing(PutError::Unavailable {
            retry_after_seconds,
        });
        let answer = server.put("key1", "1");
        answer.assert_is(503, "Service Unavailable", "no", true);
        let seconds = retry_after_seconds.to_string();
        assert_eq!(answer.header("retry-after"), Some(&*seconds));
    }
}

#[test]
fn unknown_result_of_sink_is_504() {
    let answer = Embedded::failing(PutError::Unknown).put("key1", "1");
    answer.assert_is(504, "Gateway Timeout", "unknown", true);
}

#[test]
fn sink_timeout_is_504_and_next_put_of_connection_is_served() {
    let builder = PeerServer::builder().limits(Limits {
        sink_timeout: Duration::from_millis(20),
        ..Limits::default()
    });
    let server = Embedded::start(builder.on_put(|key, _| async move {
        match &*key {
            "hangs" => std::future::pending().await,
            _ => Ok(()),
        }
    }));
    let mut connection = server.connect();
    for _ in 0..3 {
        let answer = connection.ask(&Post::put("hangs", "1"));
        answer.assert_is(504, "Gateway Timeout", "unknown", true);
    }
    connection.ask(&Post::put("answers", "1")).assert_created();
}

#[test]
fn key_has_1_to_1024_bytes_of_utf8_after_unescaping() {
    let (server, puts) = Embedded::capturing();
    let cases = [
        ("k", 1, "k"),
        ("k", 1024, "k"),
        ("\u{e9}", 512, "\u{e9}"),
        ("\\u00e9", 512, "\u{e9}"),
        ("\\uD83D\\uDE00", 256, "\u{1F600}"),
        ("\\u006bey\\/\\n\\\\\\\"", 1, "key/\n\\\""),
        ("\\u0000", 1024, "\0"),
        (" ", 1, " "),
    ];
    for (sent, times, meant) in cases {
        server.put(&sent.repeat(times), "1").assert_created();
        assert_eq!(puts.try_recv(), Ok((meant.repeat(times), "1".to_owned())));
    }
    for (sent, times) in [
        ("k", 1025),
        ("\u{20ac}", 342),
        ("\\u20ac", 342),
        ("\\u0000", 1025),
    ] {
        let detail = assert_malformed(&server.put(&sent.repeat(times), "1"));
        let (place, limit) = (detail.contains("line 1 column 8"), detail.contains("1024"));
        assert!(place && limit, "{detail}");
    }
    puts.try_recv().expect_err("nothing more is put");
}

#[test]
fn keys_are_compared_by_bytes() {
    let peer = Peer::start();
    let keys = "k K k\\u0000 k\\u0000a \u{e9} e\u{301} ' % \\u0020k 1 01 \\uD83D\\uDE00 \u{10FFFF}";
    for (number, key) in keys.split(' ').enumerate() {
        peer.put(key, &number.to_string()).assert_created();
    }
    for (number, key) in keys.split(' ').enumerate() {
        peer.put(key, &number.to_string()).assert_created();
        peer.put(key, "\"other\"").assert_problem(409);
    }
    assert_eq!(peer.stored().lines().count(), keys.split(' ').count());
}

#[test]
fn key_with_lone_surrogate_is_400() {
    let (server, puts) = Embedded::capturing();
    for key in [
        "\\uD83D",
        "\\uDE00",
        "a\\uD83Db",
        "\\uDE00\\uD83D",
        "\\uD83D\\u0041",
    ] {
        let detail = assert_malformed(&server.put(key, "1"));
        assert!(detail.contains("line 1 column 8"), "{key}: {detail}");
    }
    puts.try_recv().expect_err("nothing is put");
}

/// Events that a parser which keeps values instead of text would change or refuse.
const EVENTS: &[&str] = &[
    "null",
    "\"\"",
    "{}",
    "12345678901234567890",
    "1e400",
    "-0.0",
    "1.10E+05",
    "{ \"b\" : 1 ,\r\n\t\"a\":[ ] }",
    "{\"a\":1,\"a\":2}",
    "\"\\u00e9\\u0041\\/\\uD83D\\uDE00\"",
    "\"\\uD83D\"",
    "\"\u{e9}\u{1F600}\u{2028}\u{7f}\"",
    "{\"key\":\"other\",\"event\":2}",
];

#[test]
fn event_is_stored_byte_for_byte() {
    let (server, puts) = Embedded::capturing();
    let peer = Peer::start();
    for (number, event) in EVENTS.iter().enumerate() {
        let key = format!("key{number}");
        let put = Post::put(&key, &format!(" \t\r\n{event}\n "));
        server.send(&put).assert_created();
        assert_eq!(puts.try_recv(), Ok((key.clone(), (*event).to_owned())));
        peer.send(&put).assert_created();
        assert_eq!(peer.get(&key), format!("{event}\n"));
    }
}

#[test]
fn members_have_any_order_and_last_duplicate_wins() {
    let (server, puts) = Embedded::capturing();
    let bodies = [
        r#"{"event":2,"key":"k"}"#,
        r#"{"x":1,"event":2,"":null,"key":"k","y":[{"key":"no","event":3}]}"#,
        r#"{"key":"no","event":3,"key":"k","event":2}"#,
        r#"{"key":null,"event":3,"event":2,"key":"k"}"#,
        r#"{"key":"","key":"k","event":2}"#,
        r#"{"\u006bey":"k","\u0065vent":2}"#,
        r#"{"key":"no","\u006bey":"k","event":2}"#,
        r#"{"\uD83D":1,"key":"k","\uDE00\n":"\uD83D","event":2}"#,
        "{\"\u{1F600}\":1e999,\"key\":\"k\",\"key \":0,\"event\":2,\"Event\":3}",
        "\r\n\t {\n\"key\"\t:\r\"k\" , \"event\" : 2 }\n\n ",
    ];
    for body in bodies {
        server.send(&Post::new(body)).assert_created();
        let put = ("k".to_owned(), "2".to_owned());
        assert_eq!(puts.try_recv(), Ok(put), "{body}");
    }
    let answer = server.send(&Post::new(r#"{"key":"k","event":2,"key":1}"#));
    assert!(assert_malformed(&answer).contains("not a string"));
    puts.try_recv().expect_err("nothing more is put");
}

#[test]
fn any_nesting_depth_is_accepted() {
    let nested =
        |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    let peer = Peer::start();
    let deep = [nested("[", "]"), nested("{\"a\":", "}")];
    for (number, deep) in deep.iter().enumerate() {
        let ignored = format!("{{\"x\":{deep},\"key\":\"beside{number}\",\"event\":1}}");
        peer.send(&Post::new(ignored)).assert_created();
        let key = format!("deep{number}");
        peer.put(&key, deep).assert_created();
        peer.put(&key, deep).assert_created();
        peer.put(&key, "1").assert_is(409, "Conflict", "no", false);
        assert_eq!(peer.get(&key), format!("{deep}\n"));
        assert_malformed(&peer.send(&Post::new(&deep.as_bytes()[..deep.len() - 1])));
    }
}

/// Request targets, one for each line.
pub(crate) const TARGETS: &str = "/
/_put
/_put/
/a/b/c
//
/../x
/%F0%9F%98%80
/%zz
/?
/_put?a=b&a=c
/?x=%00
/a;b=c,d:e@f!$'()*+~
/\"{}|
http://peer:8080/_put
http://other/";

#[test]
fn any_path_and_query_is_accepted() {
    let (server, puts) = Embedded::capturing();
    let long = format!("/{}?{}", "p".repeat(8000), "q=1&".repeat(2000));
    for target in TARGETS.lines().chain([&*long]) {
        let answer = server.send(&Post::put("key1", "1").target(target));
        assert_eq!(answer.status, 201, "{target}: {}", answer.text());
        puts.try_recv().expect("is put");
    }
}

/// Header fields that have a meaning elsewhere or look odd, one for each line; `\r` separates two of them.
pub(crate) const FIELDS: &str = "Content-Type: text/plain
Content-Type: application/json; charset=utf-16
Content-Encoding: identity
Accept: text/html;q=0.1
Cookie: a=b
Origin: http://elsewhere
If-None-Match: *
Range: bytes=0-1
Connection: Upgrade, HTTP2-Settings\rUpgrade: h2c\rHTTP2-Settings: AAMAAABk
Connection: Upgrade\rUpgrade: websocket
Keep-Alive: timeout=5
Proxy-Connection: keep-alive
TE: trailers
Expect: tea
X-Empty:
X-A: 1\rX-A: 2
X-Latin: n\u{e4}m\u{e9}
x_y.z!#$%&'*+-^`|~: 1
Authorization: Basic AAAA";

#[test]
fn any_headers_are_accepted() {
    let (server, puts) = Embedded::capturing();
    let long = format!("X-Long: {}", "x".repeat(8000));
    for field in FIELDS.split('\n').chain([&*long]) {
        let field = field.replace('\r', "\r\n");
        let answer = server.send(&Post::put("key1", "1").header(&field));
        assert_eq!(answer.status, 201, "{field}: {}", answer.text());
        puts.try_recv().expect("is put");
    }
    let add = |post: Post, number| post.header(&format!("X-{number}: 1"));
    let many = (0..90).fold(Post::put("key1", "1"), add);
    server.send(&many).assert_created();
}

/// Values of `Host`, separated by spaces.
pub(crate) const HOSTS: &str =
    "peer 127.0.0.1:8080 [::1]:8080 a_b.example PEER.example. peer: n%C3%A4me";

#[test]
fn any_host_is_accepted() {
    let (server, puts) = Embedded::capturing();
    for host in HOSTS.split(' ').chain([""]) {
        let answer = server.send(&Post::put("key1", "1").host(host));
        assert_eq!(answer.status, 201, "{host:?}: {}", answer.text());
        puts.try_recv().expect("is put");
    }
}
