//! The example of a sink in another language, built as the documentation says and run where it is deployed: on
//! `wasmtime serve`, which creates an instance for each request.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{Peer, Post, Wasmtime, WasmtimeServe, componentize, run};

/// The time until the server listens. The component contains a JavaScript interpreter of 12 MB, and the
/// compiler is hardly optimized here.
const START_DEADLINE: Duration = Duration::from_secs(600);

/// The URL in the example, which users replace.
const EXAMPLE_URL: &str = "http://127.0.0.1:8081/_put";

/// A key as a JSON string, with an escape that the sink has to write again.
const KEY: &str = r#"key\"1"#;

#[test]
fn javascript_sink_is_write_once_with_an_instance_for_each_request() {
    let wasmtime = Wasmtime::V48;
    if !wasmtime.can_start() {
        return;
    }
    let store = Peer::start();
    let directory = tempfile::tempdir().expect("makes a directory");
    let component = compose(&directory, &store.url());
    let server = WasmtimeServe::start_within(START_DEADLINE, wasmtime, &component, &[], None);
    let put = |key: &str, event: &str| server.connect().ask(&Post::put(key, event));
    let event = "{ \"a\": [12345678901234567890, {}] }";
    put(KEY, event).assert_created();
    put(KEY, event).assert_created();
    let respelled = "{\"a\":[12345678901234567890,{}]}";
    put(KEY, respelled).assert_created();
    for other in ["{\"a\":[12345678901234567891,{}]}", "null"] {
        put(KEY, other).assert_is(409, "Conflict", "no", false);
    }
    let kept = run(&["get", "--store", &store.store(), "key\"1"]);
    assert_eq!(kept.assert_ok().trim_end(), event);
    drop(store);
    put("key2", "1").assert_is(504, "Gateway Timeout", "unknown", true);
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
