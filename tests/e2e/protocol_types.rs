//! Components whose imports and exports differ from those of the built-in one: which are errors at the start, and
//! which are called through `wasi:http`.

use alldata_peer_server_http::sinks::DiscardSink;
use alldata_peer_server_http::{BUILT_IN_COMPONENT, Error, PeerServer};

use crate::component::names;
use crate::support::protocol_guest::{
    DECODE, ERROR_TYPE, PUT_TYPE, RANGE_TYPE, REQUEST_ERROR_TYPE, RESPOND, RESPONSE_TYPE, Types,
    builder, guest_of_types,
};
use crate::support::{Embedded, Post, handler_beside, peer_before};

/// Functions that are never called.
const NOT_CALLED: &str = r#"
    (func (export "decode") (param i32 i32) (result i32) unreachable)
    (func (export "stored-response") (result i32) unreachable)
    (func (export "error-response") (param i32 i32 i64 i32) (result i32) unreachable)"#;

/// Components whose `protocol` has another type, or lacks a function.
fn guests_of_other_types() -> Vec<String> {
    let known = Types::default();
    let status = RESPONSE_TYPE.replace("u16", "s16");
    let problem = RESPONSE_TYPE.replace("body", "problem");
    let header = RESPONSE_TYPE.replace("(option (tuple string string))", "(option string)");
    let responses = [&status, &problem, &header].map(|response| Types { response, ..known });
    let event = PUT_TYPE.replace("event", "value");
    let text = PUT_TYPE.replace("$range", "string");
    let puts = [&event, &text].map(|put| Types { put, ..known });
    let range = RANGE_TYPE.replace("u32", "s32");
    let ranges = [Types {
        range: &range,
        ..known
    }];
    let stored = [Types {
        stored: "(result $put)",
        ..known
    }];
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
        &ranges,
        &puts,
        &stored,
        &decodes,
        &errors,
        &responds,
        &requests,
    ]
    .concat();
    let guest = |types| guest_of_types(NOT_CALLED, types);
    let mut guests: Vec<_> = all.into_iter().map(guest).collect();
    let stored = r#"(export "stored-response" (func 1) (func (result $response-exported)))"#;
    let without = guest(known).replace(stored, "");
    assert_ne!(without, guest(known));
    guests.push(without);
    guests
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

/// A later version of the interface must not be taken for this one.
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
