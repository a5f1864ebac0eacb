//! Guests whose export `protocol` is faulty: the client gets a 500 without details, and the next request
//! is served.
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
use crate::support::protocol_guest::{
    CREATED, DECODE, ERROR_TYPE, PUT_TYPE, REQUEST_ERROR_TYPE, RESPOND, RESPONSE_TYPE, STORED,
    TEXT, Types, builder, guest_of_types, guest_that, guest_that_puts, guest_with_field,
};
use crate::support::{Embedded, Post, handler_beside, peer_before};

/// Asserts that every request on one connection is answered with a 500 without details.
#[track_caller]
fn assert_fails(guest: &str) {
    assert_server_fails(builder(guest));
}

/// The same for `error-response` of a guest.
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

/// Without this, each of the others could fail for another reason.
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
    let answers = |answer, text| guest_that_puts("", "", answer, text);
    let status = answers([0; 8], "");
    let place = answers([409, 0, 0, 0, 0, 0, 0, u32::MAX], "");
    let text = answers([409, 0, 0, 0, 0, 0, TEXT, 1], "\u{e9}");
    let traps = guest_that_puts("", "unreachable", CREATED, "");
    let loops = guest_that_puts("", "(loop (br 0))", CREATED, "");
    for guest in [status, place, text, traps, loops] {
        assert_error_response_fails(&guest);
    }
}

#[test]
fn put_outside_memory_or_not_unicode_is_a_500() {
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

/// HTTP sends these before a response, never in its place.
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
fn text_that_is_not_unicode_is_a_500() {
    for answer in [[422, 0, 0, 0, 0, 0, TEXT, 1], [201, 1, TEXT, 1, 0, 0, 0, 0]] {
        // The first byte of a character of two.
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
    // 1,600 pages are 100 MiB; the guest traps where it does not get them.
    let grow = "(if (i32.eq (memory.grow (i32.const 1600)) (i32.const -1)) (then unreachable))";
    assert_fails(&guest_that(grow, CREATED, ""));
}

#[test]
fn endless_loop_is_stopped_and_delays_no_other_request() {
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
    (func (export "error-response") (param i32 i32 i64 i32) (result i32) unreachable)"#;

/// Components whose `protocol` has another type.
fn guests_of_other_types() -> Vec<String> {
    let known = Types::default();
    let status = RESPONSE_TYPE.replace("u16", "s16");
    let problem = RESPONSE_TYPE.replace("body", "problem");
    let header = RESPONSE_TYPE.replace("(option (tuple string string))", "(option string)");
    let responses = [&status, &problem, &header].map(|response| Types { response, ..known });
    let event = PUT_TYPE.replace("event", "value");
    let stored = PUT_TYPE.replace("$response", "u16");
    let puts = [&event, &stored].map(|put| Types { put, ..known });
    let string = DECODE.replace("(list u8)", "string");
    let signed = DECODE.replace("u8", "s8");
    let swapped = DECODE.replace("$put (error $response)", "$response (error $put)");
    let decodes = [&string, &signed, &swapped].map(|decode| Types { decode, ..known });
    let fewer = ERROR_TYPE.replace(r#"(case "unknown")"#, "");
    let seconds = ERROR_TYPE.replace("u32", "s32");
    let errors = [&fewer, &seconds].map(|error| Types { error, ..known });
    let put = RESPOND.replace("(result $response)", "(result $put)");
    let responds = [Types {
        respond: &put,
        ..known
    }];
    let limit = REQUEST_ERROR_TYPE.replace("u64", "s64");
    let requests = [Types {
        request: &limit,
        ..known
    }];
    let all = [
        &responses[..],
        &puts,
        &decodes,
        &errors,
        &responds,
        &requests,
    ]
    .concat();
    let guest = |types| guest_of_types(NOT_CALLED, types);
    all.into_iter().map(guest).collect()
}

#[test]
fn protocol_of_another_type_is_a_start_error() {
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

/// An import that the host does not have is an error at the start, not for each client.
#[test]
fn unknown_sink_import_is_a_start_error() {
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

/// A sink that answers every put with a conflict, and imports another sink.
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

/// The composed component has the same imports and exports as the built-in one.
#[test]
fn composed_sink_before_the_hosts_is_called() {
    let sink = wat::parse_str(SINK_BEFORE_ANOTHER).expect("is a component");
    let component = peer_before(&sink);
    assert_eq!(names(&component), names(BUILT_IN_COMPONENT));
    let builder = PeerServer::builder().component(component);
    let server = Embedded::start(builder.on_put(|_, _| async { Ok(()) }));
    server.put("key1", "1").assert_problem(409);
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

/// The event is stored by then, so the response says that it may be.
#[test]
fn invalid_response_to_a_stored_put_is_a_500() {
    let status = format!("(i32.store16 (i32.const {STORED}) (i32.const 0))");
    assert_fails(&guest_that_puts(&status, "", CREATED, ""));
}

/// A later version of the interface must not be mistaken for this one.
#[test]
fn protocol_of_another_type_falls_back_to_wasi_http() {
    for guest in guests_of_other_types() {
        let other = wat::parse_str(guest).expect("is a component");
        let component = handler_beside(Some(&other));
        let exports = names(&component).1;
        assert!(exports.contains("alldata:peer/protocol@0.1.0"));
        let builder = PeerServer::builder().sink(DiscardSink);
        let server = Embedded::start(builder.component(component));
        server.put("key1", "1").assert_created();
        server.send(&Post::new("{")).assert_problem(400);
    }
}
