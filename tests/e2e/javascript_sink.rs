//! The example of a sink in another language, built as the documentation says and run where it is deployed: on
//! `wasmtime serve`, which creates an instance for each request.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{Peer, Post, ScriptedPeer, Wasmtime, componentize, run};

/// The time until the server listens. The component contains a JavaScript interpreter of 12 MB, and the
/// compiler is hardly optimized here.
const START_DEADLINE: Duration = Duration::from_secs(600);

/// The URL in the example, which users replace.
const EXAMPLE_URL: &str = "http://127.0.0.1:8081/_put";

/// A key as a JSON string, with an escape that the sink has to write again.
const KEY: &str = r#"key\"1"#;

/// The key of a put that the other peer does not answer.
const UNANSWERED: &str = "unanswered";

#[test]
fn javascript_sink_is_write_once_with_an_instance_for_each_request() {
    let wasmtime = Wasmtime::V48;
    if !wasmtime.can_start() {
        return;
    }
    let store = Peer::start();
    let before_store = relay_to(store.address());
    let directory = tempfile::tempdir().expect("makes a directory");
    let component = compose(&directory, &before_store.url());
    let server = wasmtime.serve_within(START_DEADLINE, &component, &[], None);
    let put = |key: &str, event: &str| server.connect().ask(&Post::put(key, event));
    let event = "{ \"a\": [12345678901234567890, {}] }";
    put(KEY, event).assert_created();
    put(KEY, event).assert_created();
    let respelled = "{\"a\":[12345678901234567890,{}]}";
    put(KEY, respelled).assert_created();
    for other in ["{\"a\":[12345678901234567891,{}]}", "null"] {
        put(KEY, other).assert_is(409, "Conflict", "no", false);
    }
    assert_eq!(store.kept("key\"1").as_deref(), Some(event));
    let answer = put(UNANSWERED, "1");
    answer.assert_is(504, "Gateway Timeout", "unknown", true);
    drop(before_store);
    // In about one put of twenty, the runtime of jco componentize ends the instance where the connection is refused,
    // before the sink gets the error. Then the response is that of `wasmtime serve`.
    let refused = put("key2", "1");
    assert!([500, 504].contains(&refused.status), "{}", refused.text());
    assert_eq!(store.kept("key2"), None);
}

/// A peer that passes puts to a store, and closes the connection instead of one response.
fn relay_to(store: SocketAddr) -> ScriptedPeer {
    ScriptedPeer::start(move |exchange| {
        if exchange.read_body().key() == UNANSWERED {
            return exchange.close();
        }
        let answer = Post::new(&*exchange.body).send_to(store);
        let status = if answer.status == 201 {
            "201 Created"
        } else {
            "409 Conflict"
        };
        assert!(
            status.starts_with(&answer.status.to_string()),
            "{}",
            answer.text()
        );
        exchange.answer(status, "", &answer.text());
    })
}

/// The component with the example as its sink, which forwards to `url`.
fn compose(directory: &TempDir, url: &str) -> PathBuf {
    let file = |name| directory.path().join(name);
    let (script, wit, sink, peer) = (
        file("sink.js"),
        file("peer.wit"),
        file("sink.wasm"),
        file("peer.wasm"),
    );
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest/sinks/javascript/sink.js");
    let example = fs::read_to_string(example).expect("reads");
    assert!(example.contains(EXAMPLE_URL));
    fs::write(&script, example.replace(EXAMPLE_URL, url)).expect("writes");
    fs::write(&wit, run(&["component", "--wit"]).assert_ok()).expect("writes");
    componentize(&script, &wit, &sink);
    let [sink, component] = [&sink, &peer].map(|path| path.to_str().expect("is text"));
    run(&["component", "--plug", sink, "-o", component]).assert_ok();
    peer
}
