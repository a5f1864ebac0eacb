//! The example of a sink in another language, built the way that it says itself.
//!
//! Never looks into the component: what it is made of is for jco to say.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::{Peer, componentize, run};

/// How long this peer may take to listen. The interpreter in the component is 12 MB of WebAssembly,
/// for a compiler that is hardly optimized here.
const START_DEADLINE: Duration = Duration::from_secs(600);

#[test]
fn a_sink_in_javascript_serves() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let file = |name| directory.path().join(name);
    let (wit, sink, peer) = (file("peer.wit"), file("sink.wasm"), file("peer.wasm"));
    fs::write(&wit, run(&["component", "--wit"]).assert_ok()).expect("is written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest/sinks/javascript/sink.js");
    componentize(&script, &wit, &sink);
    let [sink, component] = [&sink, &peer].map(|path| path.to_str().expect("is text"));
    run(&["component", "--plug", sink, "-o", component]).assert_ok();
    let peer = Peer::builder()
        .arguments(&["--component", component])
        .starting_within(START_DEADLINE)
        .start();
    // One put after the other, so that it is one instance that remembers: one whose memory was
    // large from the start is kept for the next request like any other.
    peer.put("key1", "{\"a\":[1,{}],\"b\":null}")
        .assert_created();
    peer.put("key1", "{ \"b\": null, \"a\": [1.0, {}] }")
        .assert_created();
    peer.put("key1", "{\"a\":[1,[]],\"b\":null}")
        .assert_problem(409);
    peer.put("key1", "{\"a\":[1,{}],\"c\":null}")
        .assert_problem(409);
    let detail = peer.put("key2", "[1]").detail(422);
    assert_eq!(detail, "The event is not a JSON object.");
    peer.put("key2", "{}").assert_created();
}
