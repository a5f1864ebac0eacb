//! Requests that every platform answers in the same way, with any sink.
//!
//! Differences between platforms are in the tests of those platforms.

use crate::support::{Connection, Post, chunked};

/// Invalid bodies, with a part of the `detail` of each response.
pub(crate) const MALFORMED: &[(&[u8], &str)] = &[
    (b"", "empty"),
    (b" \t\r\n", "empty"),
    (b"\xEF\xBB\xBF{\"key\":\"k\",\"event\":1}", "byte order"),
    (b"key=k&event=1", "line 1 column 1"),
    (b"{\"key\":\"k\",\n\"event\":\"\xFF\"}", "line 2 column 10"),
    (b"{\"key\":\"\xED\xA0\x80\",\"event\":1}", "line 1 column 9"),
    (b"{\"key\":\"k\",\"event\":\"\xC3", "line 1 column 21"),
    (b"{\"key\":\"k\",\"event\":1", "line 1 column 20"),
    (b"{\"key\":\"k\",\"event\":", "line 1 column 19"),
    (b"{\"key\":\"k\",\n\n\"event\":1,}", "line 3 column 11"),
    (b"{\"key\":\"k\",\"event\":1}\nx", "line 2 column 1"),
    (b"{\"key\":\"k\",\"event\":1}{}", "line 1 column 22"),
    (b"{\"key\":\"k\",\"event\":1}\0", "line 1 column 22"),
    (b"{\"key\":\"k\",\"event\":01}", "line 1 column 21"),
    (b"{\"key\":\"k\",\"event\":NaN}", "line 1 column 20"),
    (b"{\"key\":\"k\",\"event\":\"\n\"}", "control character"),
    (b"{'key':'k','event':1}", "line 1 column 2"),
    (b"{\"key\":\"k\" /* */,\"event\":1}", "line 1 column 12"),
    (b"[{\"key\":\"k\",\"event\":1}]", "not an object"),
    (b"[1", "line 1 column 2"),
    (b"\"key\"", "not an object"),
    (b"1", "not an object"),
    (b"null", "not an object"),
    (b"{}", "\"key\""),
    (b"{\"event\":1}", "\"key\""),
    (b"{\"Key\":\"k\",\"event\":1}", "\"key\""),
    (b"{\"key\":1,\"event\":1}", "line 1 column 8 is not a"),
    (b"{\"event\":1,\n \"key\": null}", "line 2 column 9"),
    (b"{\"key\":[\"k\"],\"event\":1}", "not a string"),
    (b"{\"key\":\"\",\"event\":1}", "line 1 column 8 is empty"),
    (b"{\"key\":\"k\"}", "\"event\""),
    (b"{\"key\":\"k\",\"EVENT\":1}", "\"event\""),
    (b"{\"key\":\"k\",\"x\":{\"event\":1}}", "\"event\""),
];

/// A server that runs the component, with a store behind it.
pub(crate) trait Platform {
    fn connect(&self) -> Connection;

    /// The event that is stored under a key.
    fn stored(&self, key: &str) -> Option<String>;
}

/// A server and the store behind it.
struct Trial<C, S> {
    connect: C,
    stored: S,
}

impl<C: Fn() -> Connection, S: Fn(&str) -> Option<String>> Platform for Trial<C, S> {
    fn connect(&self) -> Connection {
        (self.connect)()
    }

    fn stored(&self, key: &str) -> Option<String> {
        (self.stored)(key)
    }
}

/// Checks the whole table with a server and the store behind it.
pub(crate) fn hold_with(connect: impl Fn() -> Connection, stored: impl Fn(&str) -> Option<String>) {
    hold(&Trial { connect, stored });
}

/// Checks the whole table.
pub(crate) fn hold(platform: &impl Platform) {
    an_event_is_stored_once(platform);
    what_is_no_put_is_refused(platform);
    other_methods_are_refused(platform);
    events_survive_byte_for_byte(platform);
    keys_may_be_anything(platform);
    requests_may_travel_in_any_way(platform);
    what_is_not_complete_is_not_put(platform);
}

fn an_event_is_stored_once(platform: &impl Platform) {
    let mut connection = platform.connect();
    let key = "20130927T005240652508858176";
    let event = r#"{"customer": 1, "action": "site visit"}"#;
    connection.ask(&Post::put(key, event)).assert_created();
    assert_eq!(platform.stored(key).as_deref(), Some(event));
    for again in [event, r#"{"action":"site visit","customer":1.0}"#] {
        connection.ask(&Post::put(key, again)).assert_created();
    }
    for other in [r#"{"customer":2,"action":"site visit"}"#, "null"] {
        let answer = connection.ask(&Post::put(key, other));
        answer.assert_is(409, "Conflict", "no", false);
    }
    assert_eq!(platform.stored(key).as_deref(), Some(event));
}

fn what_is_no_put_is_refused(platform: &impl Platform) {
    let mut connection = platform.connect();
    for (body, reason) in MALFORMED {
        let answer = connection.ask(&Post::new(*body));
        let detail = answer.assert_is(400, "Bad Request", "no", false);
        let body = String::from_utf8_lossy(body);
        assert!(
            detail.contains(reason),
            "{body:?}: no {reason:?} in {detail:?}"
        );
    }
    let coded = Post::put("k", "1").header("Content-Encoding: gzip");
    let answer = connection.ask(&coded);
    answer.assert_is(415, "Unsupported Media Type", "no", false);
    assert_eq!(answer.header("accept-encoding"), Some("identity"));
    assert_eq!(platform.stored("k"), None);
}

fn other_methods_are_refused(platform: &impl Platform) {
    let mut connection = platform.connect();
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = connection.ask(&Post::put("method", "1").method(method));
        answer.assert_is(405, "Method Not Allowed", "no", false);
        assert_eq!(answer.header("allow"), Some("POST"), "{method}");
    }
    let answer = connection
        .send(Post::new("").method("HEAD").bytes())
        .answer_to_head();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    // A body in the response to HEAD would precede this response.
    connection.ask(&Post::put("head", "1")).assert_created();
    assert_eq!(platform.stored("method"), None);
}

fn events_survive_byte_for_byte(platform: &impl Platform) {
    let mut connection = platform.connect();
    let large = format!("[{}1]", "1234567890, ".repeat(100_000));
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    for (number, event) in [
        "12345678901234567890.10",
        "1e400",
        "-0.0",
        r#""é😀\ud83d\ude00\u0000""#,
        r#"{"a":1,"a":2}"#,
        "[ 1,\n\t2 ]",
        &deep,
        &large,
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("event{number}");
        connection.ask(&Post::put(&key, event)).assert_created();
        assert!(platform.stored(&key).as_deref() == Some(event), "{key}");
    }
}

fn keys_may_be_anything(platform: &impl Platform) {
    let mut connection = platform.connect();
    let longest = "k".repeat(1024);
    for key in ["Key1", "KEY1", "a/../b", ".", "é😀", " ", "%2e", &longest] {
        let event = format!("[{}]", key.len());
        connection.ask(&Post::put(key, &event)).assert_created();
        assert_eq!(platform.stored(key), Some(event), "{key}");
    }
    let answer = connection.ask(&Post::put(&format!("{longest}k"), "1"));
    let detail = answer.assert_is(400, "Bad Request", "no", false);
    assert!(detail.contains("1024"), "{detail}");
}

fn requests_may_travel_in_any_way(platform: &impl Platform) {
    let body = "{\"key\":\"chunks\",\"event\":\"é😀\"}".as_bytes();
    let bytes: Vec<&[u8]> = body.chunks(1).collect();
    let mut connection = platform.connect();
    connection.ask(&Post::chunks(&bytes)).assert_created();
    assert_eq!(platform.stored("chunks").as_deref(), Some("\"é😀\""));

    let anywhere = Post::put("anywhere", "1").target("/a%20b/?c=d&e");
    let anywhere = anywhere.header("Content-Type: text/csv").header("X-Y: é");
    connection.ask(&anywhere).assert_created();

    // Two at once, before any response.
    let both = [Post::put("one", "1"), Post::put("two", "2")];
    connection.send(both.map(|post| post.bytes()).concat());
    connection.answer().assert_created();
    connection.answer().assert_created();

    let expecting = Post::put("expecting", "1").header("Expect: 100-continue");
    connection.send(expecting.head());
    assert_eq!(connection.any_answer(false).status, 100);
    let body = expecting.bytes().split_off(expecting.head().len());
    connection.send(body).answer().assert_created();

    let last = Post::put("last", "1").header("Connection: close");
    connection.ask(&last).assert_created();
    assert_eq!(connection.rest(), b"");
    for key in ["anywhere", "one", "two", "expecting", "last"] {
        assert!(platform.stored(key).is_some(), "{key}");
    }
}

fn what_is_not_complete_is_not_put(platform: &impl Platform) {
    let whole = Post::put("cut", "[1,2,3]").bytes();
    let chunks = chunked(&[b"{\"key\":\"cut\",\"event\":1}"]);
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let without_end = [&head[..], &chunks[..chunks.len() - 5]].concat();
    for part in [&whole[..whole.len() - 1], &without_end] {
        platform.connect().send(part);
        // Ends its sending side only, so that a response could still arrive.
        let mut half = platform.connect();
        half.send(part).finish().rest();
    }
    platform
        .connect()
        .ask(&Post::put("after", "1"))
        .assert_created();
    assert_eq!(platform.stored("cut"), None);
}
