//! Guests that misbehave when their `put-handler` is called: the client gets a 500 that tells
//! nothing, and the next request is served.
//!
//! The guests are components in text form, each with one fault. Those that are called through
//! `wasi:http` are in `bad_guests`.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::available_parallelism;

use alldata_peer_server_http::sinks::DiscardSink;
use alldata_peer_server_http::{
    BUILT_IN_COMPONENT, Error, Limits, PeerServer, PeerServerBuilder, PutError,
};

use crate::component::names;
use crate::support::put_handler_guest::{
    ANSWER_TYPE, CREATED, DECODE, ERROR_TYPE, EXPLAIN, PUT_TYPE, STORED, TEXT, Types, builder,
    guest_of_types, guest_that, guest_that_puts, guest_with_field,
};
use crate::support::{Embedded, Post, handler_beside, peer_before};

/// Holds that every request on one connection is answered with a 500 that tells nothing.
#[track_caller]
fn assert_fails_and_lives_on(guest: &str) {
    assert_is_failed_by(builder(guest));
}

/// The same for what a guest does to explain an error of its sink.
#[track_caller]
fn assert_explains_badly_and_lives_on(guest: &str) {
    assert_is_failed_by(builder(guest).on_put(|_, _| async { Err(PutError::Conflict) }));
}

#[track_caller]
fn assert_is_failed_by(builder: PeerServerBuilder) {
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

/// Without this, each of the others could fail for a reason that is not its own.
#[test]
fn a_guest_that_does_no_wrong_answers() {
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

/// What is put is what the guest has decoded, and what is answered what it has for that.
#[test]
fn a_guest_that_decodes_a_put_has_it_put() {
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

/// Each case has a number of its own, and a payload that it is for.
#[test]
fn a_guest_is_told_what_a_put_came_to() {
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
fn a_guest_that_can_t_explain_is_a_500() {
    let answers = |answer, text| guest_that_puts("", "", answer, text);
    let status = answers([0; 8], "");
    let place = answers([409, 0, 0, 0, 0, 0, 0, u32::MAX], "");
    let text = answers([409, 0, 0, 0, 0, 0, TEXT, 1], "\u{e9}");
    let traps = guest_that_puts("", "unreachable", CREATED, "");
    let loops = guest_that_puts("", "(loop (br 0))", CREATED, "");
    for guest in [status, place, text, traps, loops] {
        assert_explains_badly_and_lives_on(&guest);
    }
}

/// A put that is none is not put.
#[test]
fn a_put_that_is_not_in_memory_or_not_unicode_is_a_500() {
    for wrong in ["0xfff0", "-1"] {
        for part in [20, 28] {
            let does = format!("(i32.store (i32.const {part}) (i32.const {wrong}))");
            let more = format!("(i32.store (i32.const {}) (i32.const 17))", part + 4);
            let guest = guest_that_puts(&(does + &more), "", CREATED, "");
            assert_puts_nothing(&guest);
        }
    }
    let byte = "(i32.store8 (i32.const 254) (i32.const 0xe9))";
    assert_puts_nothing(&guest_that_puts(byte, "", CREATED, ""));
}

#[track_caller]
fn assert_puts_nothing(guest: &str) {
    let puts = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&puts);
    assert_is_failed_by(builder(guest).on_put(move |_, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        async { Ok(()) }
    }));
    assert_eq!(puts.load(Ordering::Relaxed), 0);
}

#[test]
fn a_guest_that_traps_is_a_500() {
    assert_fails_and_lives_on(&guest_that("unreachable", CREATED, ""));
}

#[test]
fn a_guest_that_overflows_its_stack_is_a_500() {
    let call = "(drop (call 1 (local.get 0) (local.get 1)))";
    assert_fails_and_lives_on(&guest_that(call, CREATED, ""));
}

#[test]
fn a_guest_that_traps_when_it_starts_is_a_500() {
    let start = guest_that("", CREATED, "");
    let start = start.replace(
        "(global ",
        "(func $start unreachable) (start $start) (global ",
    );
    assert_fails_and_lives_on(&start);
}

#[test]
fn a_status_that_is_none_is_a_500() {
    for status in [0, 1, 99, 1000, 0xFFFF] {
        let mut answer = CREATED;
        answer[0] = status;
        assert_fails_and_lives_on(&guest_that("", answer, ""));
    }
}

/// HTTP sends these before an answer, never in its place.
#[test]
fn a_status_that_is_only_for_the_way_is_a_500() {
    for status in [100, 101, 103, 199] {
        let mut answer = CREATED;
        answer[0] = status;
        assert_fails_and_lives_on(&guest_that("", answer, ""));
    }
}

#[test]
fn a_field_that_is_none_is_a_500() {
    for field in [
        "|value",
        "a name|value",
        "a:b|value",
        "n\u{e4}me|value",
        "name|a\r\nb: c",
        "name|a\nb",
        "name|a\0b",
    ] {
        assert_fails_and_lives_on(&guest_with_field(201, field));
    }
}

/// How an answer is framed, and what becomes of its connection, is the host's to say.
#[test]
fn a_field_that_frames_the_answer_is_not_the_guests_to_set() {
    for field in [
        "content-length|5",
        "content-length|x",
        "transfer-encoding|chunked",
        "connection|keep-alive, upgrade",
        "upgrade|websocket",
    ] {
        assert_fails_and_lives_on(&guest_with_field(422, field));
    }
}

#[test]
fn an_answer_that_is_not_in_memory_is_a_500() {
    let far = 0xFFF0;
    for returns in ["(i32.const 65520)", "(i32.const -4)", "(i32.const 17)"] {
        let guest = guest_that(&format!("(return {returns})"), CREATED, "");
        assert_fails_and_lives_on(&guest);
    }
    for answer in [
        [201, 0, 0, 0, 0, 0, far, 17],
        [201, 0, 0, 0, 0, 0, 0, u32::MAX],
        [201, 0, 0, 0, 0, 0, u32::MAX, u32::MAX],
        [201, 1, far, 17, TEXT, 1, 0, 0],
        [201, 1, TEXT, 1, TEXT, 0x8000_0000, 0, 0],
        [201, 2, TEXT, 1, TEXT, 1, 0, 0],
    ] {
        assert_fails_and_lives_on(&guest_that("", answer, "a"));
    }
}

#[test]
fn a_text_that_is_not_unicode_is_a_500() {
    for answer in [[422, 0, 0, 0, 0, 0, TEXT, 1], [201, 1, TEXT, 1, 0, 0, 0, 0]] {
        // The first byte of a character of two.
        assert_fails_and_lives_on(&guest_that("", answer, "\u{e9}"));
    }
}

#[test]
fn a_guest_that_has_no_room_for_the_body_is_a_500() {
    let guest = guest_that("", CREATED, "");
    for place in ["(i32.const 65530)", "(i32.const -1)", "unreachable"] {
        assert_fails_and_lives_on(&guest.replace("(i32.const 1024)", place));
    }
}

#[test]
fn a_guest_that_wants_too_much_memory_does_not_get_it() {
    // 1,600 pages are 100 MiB; the guest traps where it does not get them.
    let grow = "(if (i32.eq (memory.grow (i32.const 1600)) (i32.const -1)) (then unreachable))";
    assert_fails_and_lives_on(&guest_that(grow, CREATED, ""));
}

#[test]
fn a_guest_in_a_loop_is_stopped_and_keeps_nobody_waiting() {
    let body_of_3 = "(if (i32.eq (local.get $bytes) (i32.const 3)) (then (loop (br 0))))";
    let server = Embedded::start(builder(&guest_that(body_of_3, CREATED, "")));
    // More than there are threads to run them on.
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

/// Functions that are never called.
const NOT_CALLED: &str = r#"
    (func (export "decode") (param i32 i32) (result i32) unreachable)
    (func (export "explain") (param i32 i32 i32) (result i32) unreachable)"#;

/// Components whose `put-handler` has another type.
fn guests_of_other_types() -> Vec<String> {
    let known = Types::default();
    let status = ANSWER_TYPE.replace("u16", "s16");
    let problem = ANSWER_TYPE.replace("problem", "body");
    let header = ANSWER_TYPE.replace("(option (tuple string string))", "(option string)");
    let answers = [&status, &problem, &header].map(|answer| Types { answer, ..known });
    let event = PUT_TYPE.replace("event", "value");
    let stored = PUT_TYPE.replace("$answer", "u16");
    let puts = [&event, &stored].map(|put| Types { put, ..known });
    let string = DECODE.replace("(list u8)", "string");
    let signed = DECODE.replace("u8", "s8");
    let swapped = DECODE.replace("$put (error $answer)", "$answer (error $put)");
    let decodes = [&string, &signed, &swapped].map(|decode| Types { decode, ..known });
    let fewer = ERROR_TYPE.replace(r#"(case "unknown")"#, "");
    let seconds = ERROR_TYPE.replace("u32", "s32");
    let errors = [&fewer, &seconds].map(|error| Types { error, ..known });
    let put = EXPLAIN.replace("(result $answer)", "(result $put)");
    let explains = [Types {
        explain: &put,
        ..known
    }];
    let all = [&answers[..], &puts, &decodes, &errors, &explains].concat();
    let guest = |types| guest_of_types(NOT_CALLED, types);
    all.into_iter().map(guest).collect()
}

#[test]
fn a_handler_of_another_type_and_no_other_is_an_error_at_the_start() {
    for guest in guests_of_other_types() {
        let builder = builder(&guest).port(0);
        let runtime = tokio::runtime::Runtime::new().expect("starts a runtime");
        let error = runtime.block_on(builder.listen());
        let error = error.expect_err("does not start");
        assert!(matches!(error, Error::Component { .. }), "{error:?}");
        let error = format!("{:#}", anyhow::Error::from(error));
        assert!(error.contains("-handler"), "{error}");
    }
}

/// What the host does not have must be told at the start, and not to each client.
#[test]
fn a_sink_that_the_host_does_not_have_is_an_error_at_the_start() {
    let known = r#""alldata:peer/put-sink@0.1.0" (instance)"#;
    let guest = guest_of_types(NOT_CALLED, Types::default());
    for other in [
        r#""alldata:peer/put-sink@0.2.0" (instance)"#,
        r#""alldata:peer/put-sink@0.1.0" (instance (export "take" (func)))"#,
    ] {
        let guest = guest.replace(known, other);
        assert!(guest.contains(other));
        let runtime = tokio::runtime::Runtime::new().expect("starts a runtime");
        let error = runtime.block_on(builder(&guest).port(0).listen());
        let error = error.expect_err("does not start");
        assert!(matches!(error, Error::Component { .. }), "{error:?}");
    }
}

/// A sink that says to everything that the key is taken, and could as well ask the one that it
/// imports.
const SINK_BEFORE_ANOTHER: &str = r#"(component
    (import "alldata:peer/put-sink@0.1.0" (instance
        (type $variant (variant (case "conflict") (case "rejected" string)
            (case "unavailable" u32) (case "unknown") (case "failed" string)))
        (export "put-error" (type $error (eq $variant)))
        (export "put" (func (param "key" string) (param "event" string)
            (result (result (error $error)))))))
    (core module $module
        (memory (export "memory") 1)
        (data (i32.const 0) "\01")
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
        (func (export "put") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
    (core instance $core (instantiate $module))
    (type $error (variant (case "conflict") (case "rejected" string)
        (case "unavailable" u32) (case "unknown") (case "failed" string)))
    (func $put (param "key" string) (param "event" string) (result (result (error $error)))
        (canon lift (core func $core "put") (memory (core memory $core "memory"))
            (realloc (core func $core "realloc"))))
    (component $names
        (type $error (variant (case "conflict") (case "rejected" string)
            (case "unavailable" u32) (case "unknown") (case "failed" string)))
        (import "error" (type $imported (eq $error)))
        (import "put" (func (param "key" string) (param "event" string)
            (result (result (error $imported)))))
        (export $exported "put-error" (type $error))
        (export "put" (func 0) (func (param "key" string) (param "event" string)
            (result (result (error $exported))))))
    (instance $sink (instantiate $names
        (with "error" (type $error)) (with "put" (func $put))))
    (export "alldata:peer/put-sink@0.1.0" (instance $sink)))"#;

/// It has the interface, and all that it imports and exports is what the built-in one does.
#[test]
fn a_sink_between_a_peer_and_the_host_is_not_passed_by() {
    let sink = wat::parse_str(SINK_BEFORE_ANOTHER).expect("is a component");
    let component = peer_before(&sink);
    assert_eq!(names(&component), names(BUILT_IN_COMPONENT));
    let builder = PeerServer::builder().component(component);
    let server = Embedded::start(builder.on_put(|_, _| async { Ok(()) }));
    server.put("key1", "1").assert_problem(409);
}

/// It is told when it is called, and nothing is put.
#[test]
fn a_guest_that_calls_the_sink_while_it_decodes_is_a_500() {
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

/// The event is stored by then, and nobody says that it is not.
#[test]
fn an_answer_that_is_none_to_what_was_stored_is_a_500() {
    let status = format!("(i32.store16 (i32.const {STORED}) (i32.const 0))");
    assert_fails_and_lives_on(&guest_that_puts(&status, "", CREATED, ""));
}

/// A later version of the interface must not be taken for this one.
#[test]
fn beside_a_handler_of_another_type_the_one_of_wasi_http_is_called() {
    for guest in guests_of_other_types() {
        let other = wat::parse_str(guest).expect("is a component");
        let component = handler_beside(Some(&other));
        let exports = names(&component).1;
        assert!(exports.contains("alldata:peer/put-handler@0.1.0"));
        let builder = PeerServer::builder().sink(DiscardSink);
        let server = Embedded::start(builder.component(component));
        server.put("key1", "1").assert_created();
        server.send(&Post::new("{")).assert_problem(400);
    }
}
