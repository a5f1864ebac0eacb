//! The export of traces by OTLP: what is exported, and that the exporter harms no put.

mod receiver;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;

use alldata_peer_test_support::{
    Output, Peer, PeerBuilder, Post, ScriptedPeer, composed, serve, wait_until,
};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use receiver::{COLLECTOR_TOKEN, Receiver, hex, texts};
use rustix::process::Signal;

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT_ID: &str = "00f067aa0ba902b7";
const TRACEPARENT: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACESTATE: &str = "tracestate: vendor=opaque";

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const KEY: &str = "the-key-of-a-person";
const EVENT: &str = "\"the-text-of-an-event\"";

fn status(span: &Span) -> StatusCode {
    span.status.as_ref().map_or(StatusCode::Unset, Status::code)
}

#[track_caller]
fn assert_is_child(child: &Span, parent: &Span) {
    assert_eq!(hex(&child.trace_id), hex(&parent.trace_id));
    assert_eq!(hex(&child.parent_span_id), hex(&parent.span_id));
    assert!(child.start_time_unix_nano >= parent.start_time_unix_nano);
    assert!(child.end_time_unix_nano <= parent.end_time_unix_nano);
}

#[test]
fn put_is_a_span_with_parent_attributes_and_children() {
    let receiver = Receiver::start();
    let tokens = tempfile::NamedTempFile::new().expect("makes a file");
    fs::write(tokens.path(), format!("name:{TOKEN}\n")).expect("writes");
    let private = fs::Permissions::from_mode(0o600);
    fs::set_permissions(tokens.path(), private).expect("sets them");
    let file = tokens.path().to_str().expect("is text");
    let peer = receiver
        .peer()
        .sink("memory:")
        .arguments(&["--token-file", file])
        .own_env(
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        )
        .own_env("RUST_LOG", "trace")
        .start();
    let post = Post::put(KEY, EVENT)
        .target("/_put?secret=of-a-query")
        .host("peer.example:8080")
        .header(&format!("Authorization: Bearer {TOKEN}"))
        .header(TRACEPARENT)
        .header(TRACESTATE);
    peer.send(&post).assert_created();
    let exported = receiver.end(peer);
    let request = exported.span("POST");
    assert_eq!(hex(&request.trace_id), TRACE_ID);
    assert_eq!(hex(&request.parent_span_id), PARENT_ID);
    assert_eq!(request.trace_state, "vendor=opaque");
    assert_eq!(request.kind(), SpanKind::Server);
    assert_eq!(status(request), StatusCode::Unset);
    assert!(request.events.is_empty(), "{:?}", request.events);
    let expected = [
        ("client.address", "127.0.0.1"),
        ("http.request.method", "POST"),
        ("http.response.status_code", "201"),
        ("id", TRACE_ID),
        ("network.protocol.version", "1.1"),
        ("server.address", "peer.example"),
        ("server.port", "8080"),
        ("url.path", "/_put"),
        ("url.scheme", "http"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(texts(&request.attributes), BTreeMap::from(expected));
    assert_is_child(exported.span("guest"), request);
    let sink = exported.span("sink");
    assert_is_child(sink, request);
    assert_eq!(texts(&sink.attributes)["alldata.put.outcome"], "stored");
    assert_eq!(exported.spans.len(), 3);
    assert_eq!(exported.resource["service.name"], "alldata-peer");
    assert_eq!(exported.resource["deployment.environment.name"], "test");
    for secret in [
        KEY,
        "the-text-of-an-event",
        TOKEN,
        COLLECTOR_TOKEN,
        "of-a-query",
    ] {
        assert!(!exported.contains(secret), "{secret} is exported");
    }
    for line in &exported.log {
        for secret in [TOKEN, COLLECTOR_TOKEN] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

#[test]
fn id_of_a_problem_is_the_trace_of_its_span() {
    let receiver = Receiver::start();
    let peer = receiver.peer().sink("memory:").start();
    let mut connection = peer.connect();
    connection.ask(&Post::put(KEY, "1")).assert_created();
    let conflict = connection.ask(&Post::put(KEY, "2"));
    let invalid = TRACEPARENT.replace("-01", "-0");
    let malformed = connection.ask(&Post::new("{").header(&invalid));
    let exported = receiver.end(peer);
    let trace_of = |status: &str| {
        let mut spans = exported.spans.iter();
        let span = spans.find(|span| {
            let attributes = texts(&span.attributes);
            attributes
                .get("http.response.status_code")
                .is_some_and(|it| it == status)
        });
        let span = span.expect("is exported");
        assert_eq!(hex(&span.parent_span_id), "", "is a root");
        hex(&span.trace_id)
    };
    conflict.assert_problem(409);
    malformed.assert_problem(400);
    assert_eq!(conflict.request_id, Some(trace_of("409")));
    assert_eq!(malformed.request_id, Some(trace_of("400")));
    assert_ne!(conflict.request_id, malformed.request_id);
    let outcome = |span: &Span| texts(&span.attributes).get("alldata.put.outcome").cloned();
    let outcomes: Vec<String> = exported.spans.iter().filter_map(outcome).collect();
    assert_eq!(outcomes, ["stored", "conflict"]);
    assert!(
        exported
            .spans
            .iter()
            .all(|span| status(span) == StatusCode::Unset)
    );
}

#[test]
fn failure_of_the_sink_is_an_error() {
    let receiver = Receiver::start();
    let nobody = Peer::nobody();
    let peer = receiver.peer().sink(&nobody.url()).start();
    peer.put(KEY, "1").assert_problem(503);
    let other = peer.send(&Post::put(KEY, "1").method("BREW"));
    other.assert_problem(405);
    let exported = receiver.end(peer);
    let request = exported.span("POST");
    assert_eq!(status(request), StatusCode::Error);
    let attributes = texts(&request.attributes);
    assert_eq!(attributes["http.response.status_code"], "503");
    assert_eq!(attributes["error.type"], "503");
    let sink = exported.span("sink");
    assert_is_child(sink, request);
    assert_eq!(status(sink), StatusCode::Error);
    assert_eq!(texts(&sink.attributes)["error.type"], "unavailable");
    let other = exported.span("HTTP");
    assert_eq!(status(other), StatusCode::Unset);
    let attributes = texts(&other.attributes);
    assert_eq!(attributes["http.request.method"], "_OTHER");
    assert_eq!(attributes["http.request.method_original"], "BREW");
}

/// Asserts that another peer gets the context of the span of this name.
fn assert_upstream_gets_context(parent: &str, start: impl Fn(PeerBuilder, &str) -> PeerBuilder) {
    let receiver = Receiver::start();
    let upstream = ScriptedPeer::answering("201 Created");
    let peer = start(receiver.peer(), &upstream.url()).start();
    let post = Post::put(KEY, "1").header(TRACEPARENT).header(TRACESTATE);
    peer.send(&post).assert_created();
    peer.put(KEY, "1").assert_created();
    let [first, second] = [upstream.request(), upstream.request()];
    let exported = receiver.end(peer);
    let parents: Vec<String> = exported
        .spans
        .iter()
        .filter(|span| span.name == parent)
        .map(|span| format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id)))
        .collect();
    assert_eq!(parents.len(), 2);
    assert_eq!(first.header("traceparent"), Some(&*parents[0]));
    assert!(parents[0].contains(TRACE_ID));
    assert_eq!(first.header("tracestate"), Some("vendor=opaque"));
    assert_eq!(second.header("traceparent"), Some(&*parents[1]));
    assert_eq!(second.header("tracestate"), None);
}

#[test]
fn other_peer_gets_the_context_of_the_sink() {
    assert_upstream_gets_context("sink", PeerBuilder::sink);
}

#[test]
fn requests_of_a_component_have_the_context_of_its_call() {
    let file = composed("forward").to_str().expect("is text");
    assert_upstream_gets_context("guest", |peer, url| {
        let variable = format!("ALLDATA_PEER_FORWARD_URL={url}");
        peer.arguments(&["--component", file, "--env", &variable])
    });
}

#[test]
fn unsampled_request_is_not_exported() {
    let receiver = Receiver::start();
    let peer = receiver.peer().sink("memory:").start();
    let unsampled = TRACEPARENT.replace("-01", "-00");
    peer.send(&Post::put(KEY, "1").header(&unsampled))
        .assert_created();
    let conflict = peer.send(&Post::put(KEY, "2").header(&unsampled));
    assert_eq!(conflict.request_id.as_deref(), Some(TRACE_ID));
    assert!(receiver.end(peer).spans.is_empty());
}

#[test]
fn nothing_is_exported_if_that_is_turned_off() {
    for (name, value) in [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_TRACES_SAMPLER", "always_off"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
    ] {
        let receiver = Receiver::start();
        let peer = receiver.peer().sink("memory:").own_env(name, value).start();
        peer.put(KEY, "1").assert_created();
        assert!(receiver.end(peer).spans.is_empty(), "{name}");
    }
}

#[test]
fn refused_export_fails_no_put_and_is_logged_once() {
    let nobody = Peer::nobody();
    let mut peer = Peer::builder()
        .sink("memory:")
        .own_env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &nobody.url())
        .own_env("OTEL_BSP_SCHEDULE_DELAY", "1")
        .start();
    for number in 0..20 {
        peer.put(&format!("{number}"), "1").assert_created();
    }
    let line = peer.log_line("traces are lost");
    assert!(line.contains("refused"), "{line}");
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    let others = peer.rest_of_stderr();
    let is_failure = |line: &&String| line.contains("lost") || line.contains("opentelemetry");
    assert_eq!(others.iter().find(is_failure), None);
}

/// A server whose receiver accepts connections, and never responds.
fn with_silent_receiver() -> (TcpListener, PeerBuilder) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
    let endpoint = format!("http://{}", listener.local_addr().expect("is bound"));
    let peer = Peer::builder().sink("memory:");
    let peer = peer.own_env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    (listener, peer)
}

/// The server would wait for ten minutes.
#[test]
fn silent_receiver_fails_no_put_and_does_not_delay_the_end() {
    let (_silent, peer) = with_silent_receiver();
    let mut peer = peer
        .own_env("OTEL_EXPORTER_OTLP_TIMEOUT", "600000")
        .own_env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
        .own_env("OTEL_BSP_MAX_QUEUE_SIZE", "1")
        .start();
    for number in 0..20 {
        peer.put(&format!("{number}"), "1").assert_created();
    }
    peer.log_line("dropped a Span due to queue full");
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    let log = peer.rest_of_stderr();
    let has = |text: &str| log.iter().any(|line| line.contains(text));
    assert!(has("the last traces may not be exported"), "{log:#?}");
}

#[test]
fn later_signal_ends_the_export_of_the_last_traces() {
    let (_silent, peer) = with_silent_receiver();
    let mut peer = peer.start();
    peer.put(KEY, "1").assert_created();
    peer.signal(Signal::TERM);
    peer.log_line("serve: closed");
    wait_until("a later signal ends the server", || {
        peer.signal(Signal::TERM);
        peer.has_ended()
    });
    assert_eq!(peer.wait().code(), Some(0));
    let log = peer.rest_of_stderr();
    let has = |text: &str| log.iter().any(|line| line.contains(text));
    assert!(has("SIGTERM ended the export"), "{log:#?}");
}

#[test]
fn unknown_sampler_is_logged() {
    let receiver = Receiver::start();
    let sampler = receiver.peer().own_env("OTEL_TRACES_SAMPLER", "none-such");
    let exported = receiver.end(sampler.sink("memory:").start());
    let has = |text: &str| exported.log.iter().any(|line| line.contains(text));
    assert!(
        has("Unrecognized sampler type 'none-such'"),
        "{:#?}",
        exported.log
    );
}

#[test]
fn unusable_setting_is_refused_without_its_value() {
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "secret:4318"),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "http://user:secret@localhost",
        ),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "secret"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "secret"),
    ] {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost");
        let output = Output::with_environment(&serve("memory:"), &[endpoint, (name, value)]);
        assert_eq!(output.code, Some(2), "{output:?}");
        let error = format!("error: {name}: ");
        assert!(output.stderr.starts_with(&error), "{output:?}");
        assert!(!output.stderr.contains("secret"), "{output:?}");
    }
}
