//! Guests whose export `protocol` is faulty: the client gets a 500 without details, and the next request
//! is served.
//!
//! The guests are components in text form, each with one fault. Those of another type are in `protocol_types`,
//! those that are called through `wasi:http` in `bad_guests`.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::available_parallelism;

use alldata_peer_server_http::{Limits, PeerServerBuilder, PutError};

use crate::support::protocol_guest::{
    CREATED, EVENT, KEY, KEY_TEXT, TEXT, builder, guest_that, guest_that_puts, guest_that_responds,
    guest_with_field,
};
use crate::support::{Embedded, Post};

/// Asserts that every request on one connection is answered with a 500 without details.
#[track_caller]
fn assert_fails(guest: &str) {
    assert_server_fails(builder(guest));
}

/// The same for a guest whose `error-response` is faulty.
#[track_caller]
fn assert_error_response_fails(guest: &str) {
    assert_server_fails(builder(guest).on_put(|_, _| async { Err(PutError::Conflict) }));
}

#[track_caller]
fn assert_server_fails(builder: PeerServerBuilder) {
    let server = Embedded::start(builder.limits(Limits {
        max_concurrent_requests: 1,
        ..Limits::default()
    }));
    let mut connection = server.connect();
    for _ in 0..3 {
        let answer = connection.ask(&Post::put("key1", "1"));
        let detail = answer.assert_is(500, "Internal Server Error", "unknown", true);
        assert!(detail.contains("log"), "{detail}");
        for trace in ["wasm", "guest", "trap", "memory"] {
            assert!(!answer.text().contains(trace), "{}", answer.text());
        }
    }
    server.close();
}

/// The base of all other tests here: a guest without a fault.
#[test]
fn correct_guest_responds() {
    let server = Embedded::start(builder(&guest_with_field(418, "x-name|a value")));
    let answer = server.put("key1", "1");
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (418, "x-name|a value")
    );
    assert_eq!(answer.header("x-name"), Some("a value"));
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    let server = Embedded::start(builder(&guest_that("", CREATED, "")));
    let answer = server.put("key1", "1");
    answer.assert_created();
    assert_eq!(answer.header("content-type"), None);
}

#[test]
fn decoded_put_is_put_and_its_response_sent() {
    let guest = guest_that_puts("", "", [418, 0, 0, 0, 0, 0, TEXT, 1], "x");
    let (sender, puts) = mpsc::channel();
    let stores = builder(&guest).on_put(move |key, event| {
        let sent = sender.send((key, event));
        async move { sent.map_err(|error| PutError::Failed(error.to_string())) }
    });
    let answer = Embedded::start(stores).put("key1", "1");
    assert_eq!((answer.status, answer.text().as_str()), (299, ""));
    let put = ("k".to_owned(), "1".to_owned());
    assert_eq!(puts.try_iter().collect::<Vec<_>>(), [put]);
    let fails = builder(&guest).on_put(|_, _| async { Err(PutError::Unknown) });
    let answer = Embedded::start(fails).put("key1", "1");
    assert_eq!((answer.status, answer.text().as_str()), (418, "x"));
}

#[test]
fn error_response_gets_the_error_of_the_sink() {
    let tell = "(i32.store16 (i32.const 128) (i32.add (local.get $case) (i32.const 400)))
        (i32.store (i32.const 152) (local.get $payload))
        (i32.store (i32.const 156) (local.get $bytes))";
    let text = guest_that_puts("", tell, CREATED, "");
    let number = guest_that_puts(
        "",
        "(i32.store16 (i32.const 128) (local.get $payload))",
        CREATED,
        "",
    );
    for (guest, error, status, text) in [
        (&text, PutError::Rejected("No.".to_owned()), 401, "No."),
        (&text, PutError::Failed("Why.".to_owned()), 404, "Why."),
        (
            &number,
            PutError::Unavailable {
                retry_after_seconds: 477,
            },
            477,
            "",
        ),
    ] {
        let server = builder(guest).on_put(move |_, _| {
            let error = error.clone();
            async move { Err(error) }
        });
        let answer = Embedded::start(server).put("key1", "1");
        assert_eq!((answer.status, answer.text().as_str()), (status, text));
    }
}

#[test]
fn faulty_error_response_is_a_500() {
    let responds = |answer, text| guest_that_puts("", "", answer, text);
    let status = responds([0; 8], "");
    let place = responds([409, 0, 0, 0, 0, 0, 0, u32::MAX], "");
    let text = responds([409, 0, 0, 0, 0, 0, TEXT, 1], "\u{e9}");
    let traps = guest_that_puts("", "unreachable", CREATED, "");
    let loops = guest_that_puts("", "(loop (br 0))", CREATED, "");
    for guest in [status, place, text, traps, loops] {
        assert_error_response_fails(&guest);
    }
}

/// Code that sets the two words of a part of the result of `decode`.
fn sets(part: u32, words: [&str; 2]) -> String {
    let set = |at: u32, word: &str| format!("(i32.store (i32.const {at}) {word})");
    set(part, words[0]) + &set(part + 4, words[1])
}

#[test]
fn key_outside_memory_or_not_unicode_is_a_500() {
    for address in ["(i32.const 0xfff0)", "(i32.const -1)"] {
        let does = sets(KEY, [address, "(i32.const 17)"]);
        assert_puts_nothing(&guest_that_puts(&does, "", CREATED, ""));
    }
    let byte = format!("(i32.store8 (i32.const {KEY_TEXT}) (i32.const 0xe9))");
    assert_puts_nothing(&guest_that_puts(&byte, "", CREATED, ""));
}

#[test]
fn event_outside_the_body_is_a_500() {
    let bytes = "(local.get $bytes)";
    let one_more = "(i32.add (local.get $bytes) (i32.const 1))";
    for words in [
        [bytes, "(i32.const 1)"],
        [one_more, "(i32.const 0)"],
        ["(i32.const 0)", one_more],
        ["(i32.const 1)", bytes],
        ["(i32.const 1)", "(i32.const -1)"],
        ["(i32.const -1)", "(i32.const 1)"],
        ["(i32.const -1)", "(i32.const -1)"],
    ] {
        let guest = guest_that_puts(&sets(EVENT, words), "", CREATED, "");
        assert_puts_nothing(&guest);
    }
    let all = guest_that_puts(&sets(EVENT, ["(i32.const 0)", bytes]), "", CREATED, "");
    assert_eq!(Embedded::start(builder(&all)).put("key1", "1").status, 299);
}

#[test]
fn non_unicode_event_is_a_500() {
    let puts = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&puts);
    let builder = builder(&guest_that_puts("", "", CREATED, ""));
    let server = Embedded::start(builder.on_put(move |_, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        async { Ok(()) }
    }));
    // The event is one byte of a two-byte character.
    let answer = server.send(&Post::new("\u{e9}}"));
    answer.assert_is(500, "Internal Server Error", "unknown", true);
    assert_eq!(puts.load(Ordering::Relaxed), 0);
    assert_eq!(server.put("key1", "1").status, 299);
}

#[test]
fn malformed_body_needs_no_stored_response() {
    let guest = guest_that("", [418, 0, 0, 0, 0, 0, 0, 0], "");
    let function = r#"(func (export "stored-response") (result i32)"#;
    let traps = guest.replace(function, &format!("{function} unreachable"));
    assert_ne!(traps, guest);
    let server = Embedded::start(builder(&traps));
    assert_eq!(server.put("key1", "1").status, 418);
}

#[track_caller]
fn assert_puts_nothing(guest: &str) {
    let puts = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&puts);
    assert_server_fails(builder(guest).on_put(move |_, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        async { Ok(()) }
    }));
    assert_eq!(puts.load(Ordering::Relaxed), 0);
}

#[test]
fn trap_is_a_500() {
    assert_fails(&guest_that("unreachable", CREATED, ""));
}

#[test]
fn stack_overflow_is_a_500() {
    let call = "(drop (call 1 (local.get 0) (local.get 1)))";
    assert_fails(&guest_that(call, CREATED, ""));
}

#[test]
fn trap_at_instantiation_is_a_500() {
    let start = guest_that("", CREATED, "");
    let start = start.replace(
        "(global ",
        "(func $start unreachable) (start $start) (global ",
    );
    assert_fails(&start);
}

#[test]
fn invalid_status_is_a_500() {
    for status in [0, 1, 99, 1000, 0xFFFF] {
        let mut answer = CREATED;
        answer[0] = status;
        assert_fails(&guest_that("", answer, ""));
    }
}

/// These precede a final response and can't replace it.
#[test]
fn interim_status_is_a_500() {
    for status in [100, 101, 103, 199] {
        let mut answer = CREATED;
        answer[0] = status;
        assert_fails(&guest_that("", answer, ""));
    }
}

#[test]
fn invalid_header_field_is_a_500() {
    for field in [
        "|value",
        "a name|value",
        "a:b|value",
        "n\u{e4}me|value",
        "name|a\r\nb: c",
        "name|a\nb",
        "name|a\0b",
    ] {
        assert_fails(&guest_with_field(201, field));
    }
}

/// The framing of a response and the end of its connection are decided by the host.
#[test]
fn header_field_of_the_connection_is_a_500() {
    for field in [
        "content-length|5",
        "content-length|x",
        "transfer-encoding|chunked",
        "connection|keep-alive, upgrade",
        "upgrade|websocket",
    ] {
        assert_fails(&guest_with_field(422, field));
    }
}

#[test]
fn response_outside_memory_is_a_500() {
    let far = 0xFFF0;
    for returns in ["(i32.const 65520)", "(i32.const -4)", "(i32.const 17)"] {
        let guest = guest_that(&format!("(return {returns})"), CREATED, "");
        assert_fails(&guest);
    }
    for answer in [
        [201, 0, 0, 0, 0, 0, far, 17],
        [201, 0, 0, 0, 0, 0, 0, u32::MAX],
        [201, 0, 0, 0, 0, 0, u32::MAX, u32::MAX],
        [201, 1, far, 17, TEXT, 1, 0, 0],
        [201, 1, TEXT, 1, TEXT, 0x8000_0000, 0, 0],
        [201, 2, TEXT, 1, TEXT, 1, 0, 0],
    ] {
        assert_fails(&guest_that("", answer, "a"));
    }
}

#[test]
fn invalid_unicode_is_a_500() {
    for answer in [[422, 0, 0, 0, 0, 0, TEXT, 1], [201, 1, TEXT, 1, 0, 0, 0, 0]] {
        // The first byte of a two-byte character.
        assert_fails(&guest_that("", answer, "\u{e9}"));
    }
}

#[test]
fn body_without_memory_is_a_500() {
    let guest = guest_that("", CREATED, "");
    for place in ["(i32.const 65530)", "(i32.const -1)", "unreachable"] {
        assert_fails(&guest.replace("(i32.const 1024)", place));
    }
}

#[test]
fn memory_over_the_limit_is_a_500() {
    // 1,600 pages are 100 MiB; the guest traps if they are denied.
    let grow = "(if (i32.eq (memory.grow (i32.const 1600)) (i32.const -1)) (then unreachable))";
    assert_fails(&guest_that(grow, CREATED, ""));
}

#[test]
fn endless_loop_is_stopped_and_delays_no_other_request() {
    let body_of_3 = "(if (i32.eq (local.get $bytes) (i32.const 3)) (then (loop (br 0))))";
    let server = Embedded::start(builder(&guest_that(body_of_3, CREATED, "")));
    // More calls than threads.
    let threads = available_parallelism().map_or(1, NonZeroUsize::get);
    let mut looping: Vec<_> = (0..=threads).map(|_| server.connect()).collect();
    for connection in &mut looping {
        connection.send(Post::new("abc").bytes());
    }
    server.send(&Post::new("abcd")).assert_created();
    for connection in &mut looping {
        connection.answer().assert_problem(500);
        connection.ask(&Post::new("abcd")).assert_created();
    }
    server.close();
}

#[test]
fn call_of_the_sink_by_decode_is_a_500() {
    let sink = r#"(import "alldata:peer/put-sink@0.1.0" (instance))"#;
    let calls = r#"(import "alldata:peer/put-sink@0.1.0" (instance $sink (export "put" (func))))
        (core func $put (canon lower (func $sink "put")))
        (core instance $imports (export "put" (func $put)))"#;
    let guest = guest_that_puts("(call $put)", "", CREATED, "")
        .replace(sink, calls)
        .replace(
            "(core module $module",
            r#"(core module $module (import "" "put" (func $put))"#,
        )
        .replace(
            "(instantiate $module)",
            r#"(instantiate $module (with "" (instance $imports)))"#,
        );
    assert_puts_nothing(&guest);
}

/// The event is already stored, so the response has to say "unknown".
#[test]
fn invalid_response_to_a_stored_put_is_a_500() {
    for response in [[0; 8], [201, 1, TEXT, 1, TEXT, 1, 0, 0]] {
        assert_fails(&guest_that_responds("", "", response, "\n"));
    }
}

#[test]
fn failing_stored_response_is_a_500_and_puts_nothing() {
    for does in ["unreachable", "(loop (br 0))"] {
        assert_puts_nothing(&guest_that_responds("", does, CREATED, ""));
    }
    let far = [201, 0, 0, 0, 0, 0, 0, u32::MAX];
    assert_puts_nothing(&guest_that_responds("", "", far, ""));
}

/// Each instance decodes two puts. It tells in the key how often its `stored-response` was called before.
#[test]
fn stored_response_is_called_once_for_all_instances() {
    let counts = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))";
    let tells =
        format!("(i32.store8 (i32.const {KEY_TEXT}) (i32.add (global.get $calls) (i32.const 48)))");
    let guest = guest_that_responds(&tells, counts, [298, 0, 0, 0, 0, 0, 0, 0], "");
    let (sender, keys) = mpsc::channel();
    let builder = builder(&guest).limits(Limits {
        max_concurrent_requests: 1,
        max_instance_reuse_count: 2,
        ..Limits::default()
    });
    let server = Embedded::start(builder.on_put(move |key, _| {
        let sent = sender.send(key);
        async move { sent.map_err(|error| PutError::Failed(error.to_string())) }
    }));
    for _ in 0..4 {
        assert_eq!(server.put("key1", "1").status, 298);
    }
    let keys: Vec<_> = keys.try_iter().collect();
    assert_eq!(keys, ["0", "1", "0", "0"]);
}
