//! The components for WASI 0.3: their interfaces, and their behaviour on `wasmtime serve`, which serves several
//! requests by one instance.

use std::collections::BTreeSet;
use std::fs;

use tempfile::TempDir;
use wasmparser::Validator;
use wit_parser::Resolve;

use crate::component::names;
use crate::request_table::hold_with;
use crate::support::{
    Connection, EventFiles, HostProcess, Peer, Post, ScriptedPeer, Wasmtime, composed,
    composed_for_wasi_0_3, run,
};

/// The largest size of the component alone, in bytes.
const MAX_BARE_BYTES: usize = 100_000;

/// The largest size of a composed component, in bytes.
const MAX_COMPOSED_BYTES: usize = 240 * 1024;

/// The only export.
const HANDLER: &str = "wasi:http/handler@0.3.2";

/// The name of the directory as the component sees it.
const EVENTS: &str = "/events";

/// How many puts one instance serves at a time, on `wasmtime serve`.
const PUTS: usize = 16;

/// A body larger than the limit of the component, in bytes.
const TOO_LARGE: usize = 16 * 1024 * 1024 + 1;

#[test]
fn wasmtime_48_serve_answers_the_table_with_both_sinks() {
    hold(Wasmtime::V48);
}

#[test]
fn wasmtime_49_serve_answers_the_table_with_both_sinks() {
    hold(Wasmtime::V49);
}

#[track_caller]
fn hold(version: Wasmtime) {
    if !version.can_start() {
        return;
    }
    let events = EventFiles::new();
    let server = with_directory(version, &events);
    hold_with(|| server.connect(), |key| events.held(key));
    let store = Peer::start();
    let server = with_forward(version, &store.url());
    hold_with(|| server.connect(), |key| store.kept(key));
}

fn with_directory(version: Wasmtime, events: &EventFiles) -> HostProcess {
    let variables = [("ALLDATA_PEER_DIRECTORY", EVENTS)];
    let shared = Some((events.root(), EVENTS));
    version.serve(composed_for_wasi_0_3("directory"), &variables, shared)
}

fn with_forward(version: Wasmtime, url: &str) -> HostProcess {
    let variables = [("ALLDATA_PEER_FORWARD_URL", url)];
    version.serve(composed_for_wasi_0_3("forward"), &variables, None)
}

#[test]
fn puts_wait_for_their_store_at_the_same_time() {
    if !Wasmtime::V48.can_start() {
        return;
    }
    let store = ScriptedPeer::start(|exchange| {
        exchange.read_body();
    });
    let server = with_forward(Wasmtime::V48, &store.url());
    let mut clients: Vec<Connection> = (0..PUTS).map(|_| server.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(Post::put(&number.to_string(), "1").bytes());
    }
    // None is answered before all have arrived.
    let mut exchanges: Vec<_> = (0..PUTS).map(|_| store.request()).collect();
    for exchange in exchanges.iter_mut() {
        exchange.answer("201 Created", "", "");
    }
    for client in &mut clients {
        client.answer().assert_created();
    }
}

#[test]
fn store_that_does_not_answer_leaves_the_put_unknown() {
    if !Wasmtime::V48.can_start() {
        return;
    }
    let store = ScriptedPeer::start(|exchange| {
        exchange.read_body();
    });
    let server = Wasmtime::V48.serve(
        composed_for_wasi_0_3("forward"),
        &[
            ("ALLDATA_PEER_FORWARD_URL", &store.url()),
            ("ALLDATA_PEER_FORWARD_TIMEOUT_MS", "400"),
        ],
        None,
    );
    let answer = server.connect().ask(&Post::put("key1", "1"));
    answer.assert_is(504, "Gateway Timeout", "unknown", true);
    server.log_line("no answer in time");
    let nobody = Peer::nobody();
    let server = with_forward(Wasmtime::V48, &nobody.url());
    let answer = server.connect().ask(&Post::put("key1", "1"));
    answer.assert_is(503, "Service Unavailable", "no", true);
}

/// The client learns what the status says, since no other peer may get the put then.
#[test]
fn status_counts_though_the_body_of_the_response_stalls() {
    if !Wasmtime::V48.can_start() {
        return;
    }
    let store = ScriptedPeer::start(|exchange| {
        exchange.read_body();
        exchange.send("HTTP/1.1 409 Conflict\r\nContent-Length: 9\r\n\r\n{");
    });
    let server = Wasmtime::V48.serve(
        composed_for_wasi_0_3("forward"),
        &[
            ("ALLDATA_PEER_FORWARD_URL", &store.url()),
            ("ALLDATA_PEER_FORWARD_TIMEOUT_MS", "1000"),
        ],
        None,
    );
    let answer = server.connect().ask(&Post::put("key1", "1"));
    answer.assert_problem(409);
}

#[test]
fn body_beyond_the_limit_is_too_large() {
    if !Wasmtime::V48.can_start() {
        return;
    }
    let events = EventFiles::new();
    let server = with_directory(Wasmtime::V48, &events);
    let answer = server.connect().ask(&Post::new(vec![b' '; TOO_LARGE]));
    answer.assert_problem(413);
}

#[test]
fn interfaces_are_exact() {
    let directory = TempDir::new().expect("creates a directory");
    let bare = directory.path().join("peer.wasm");
    let path = bare.to_str().expect("is text");
    run(&["component", "--wasi", "0.3", "-o", path]).assert_ok();
    let own: [(&_, &[&str], usize); 3] = [
        (&*bare, &["alldata:peer/put-sink@0.3.0"], MAX_BARE_BYTES),
        (
            composed_for_wasi_0_3("forward"),
            &[
                "wasi:cli/environment@0.2.12",
                "wasi:cli/stderr@0.2.12",
                "wasi:clocks/monotonic-clock@0.3.2",
                "wasi:clocks/types@0.3.2",
                "wasi:http/client@0.3.2",
                "wasi:io/error@0.2.12",
                "wasi:io/streams@0.2.12",
            ],
            MAX_COMPOSED_BYTES,
        ),
        (
            composed_for_wasi_0_3("directory"),
            &[
                "wasi:cli/environment@0.2.12",
                "wasi:cli/stderr@0.2.12",
                "wasi:filesystem/preopens@0.2.12",
                "wasi:filesystem/types@0.2.12",
                "wasi:io/error@0.2.12",
                "wasi:io/streams@0.2.12",
                "wasi:random/random@0.2.12",
            ],
            MAX_COMPOSED_BYTES,
        ),
    ];
    for (file, own, most) in own {
        let component = fs::read(file).expect("reads");
        let (imports, exports) = names(&component);
        let expected = own.iter().chain(&["wasi:http/types@0.3.2"]);
        let expected: BTreeSet<String> = expected.map(|name| (*name).to_owned()).collect();
        assert_eq!(imports, expected, "{}", file.display());
        assert_eq!(exports, BTreeSet::from([HANDLER.to_owned()]));
        let mut validator = Validator::new_with_features(wasmparser::WasmFeatures::all());
        validator.validate_all(&component).expect("is valid");
        assert!(
            component.len() < most,
            "{}: {}",
            file.display(),
            component.len()
        );
    }
}

#[test]
fn sink_that_is_not_made_for_it_is_an_error() {
    let output = run(&[
        "component",
        "--wasi",
        "0.3",
        "--sink",
        "keyvalue-spin",
        "-o",
        "-",
    ]);
    let error = output.assert_failed(1);
    assert!(error.contains("made for WASI 0.2 only"), "{error}");
}

#[test]
fn our_host_says_that_it_runs_the_other_version() {
    let component = composed_for_wasi_0_3("directory");
    let path = component.to_str().expect("is text");
    let output = run(&["serve", "--port", "0", "--component", path]);
    let error = output.assert_failed(1);
    assert!(
        error.contains("it is made for WASI 0.3, and this host runs components for 0.2"),
        "{error}"
    );
    // The one for 0.2 is not taken for it.
    assert_ne!(
        fs::read(component).expect("reads"),
        fs::read(composed("directory")).expect("reads")
    );
}

#[test]
fn wit_is_a_package_of_its_own() {
    let output = run(&["component", "--wasi", "0.3", "--wit"]);
    let mut resolve = Resolve::default();
    let package = resolve.push_str("put-sink.wit", output.assert_ok());
    let package = package.expect("is WIT that needs no other");
    let package = &resolve.packages[package];
    assert_eq!(package.name.to_string(), "alldata:peer@0.3.0");
    let put = &resolve.interfaces[package.interfaces["put-sink"]].functions["put"];
    assert!(put.kind.is_async());
}
