//! `alldata-peer component`: the compositions that it makes, and those that it refuses.
//!
//! What a composed sink does with events is in `directory_sink` and `forward_sink`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use alldata_peer_server_http::BUILT_IN_COMPONENT;
use tempfile::TempDir;
use wasmparser::Validator;
use wit_parser::{Resolve, WorldItem};

use crate::component::{EXPORTS, names};
use crate::support::{Peer, SINKS, composed, run};

/// The largest size of the component alone, in bytes: hosts download and compile it.
const MAX_BARE_BYTES: usize = 80 * 1024;

/// The largest size of a composed component, in bytes: sinks add an allocator and a JSON parser.
const MAX_COMPOSED_BYTES: usize = 192 * 1024;

/// The imports of every composed component: those of the peer, and variables and standard error for the sink.
const IMPORTS: [&str; 5] = [
    "wasi:cli/environment@0.2.12",
    "wasi:cli/stderr@0.2.12",
    "wasi:http/types@0.2.12",
    "wasi:io/error@0.2.12",
    "wasi:io/streams@0.2.12",
];

/// The interface of sinks.
const PUT_SINK: &str = "alldata:peer/put-sink@0.1.0";

/// The type of its errors.
const PUT_ERROR: &str = r#"(variant (case "conflict") (case "rejected" string)
    (case "unavailable" u32) (case "unknown") (case "failed" string))"#;

#[test]
fn composed_sinks_import_only_interfaces_of_platforms() {
    let own: [&[&str]; 4] = [
        &[
            "wasi:clocks/monotonic-clock@0.2.12",
            "wasi:http/outgoing-handler@0.2.12",
            "wasi:io/poll@0.2.12",
        ],
        &[
            "wasi:filesystem/preopens@0.2.12",
            "wasi:filesystem/types@0.2.12",
            "wasi:random/random@0.2.12",
        ],
        &[
            "wasi:keyvalue/atomics@0.2.0-draft2",
            "wasi:keyvalue/store@0.2.0-draft2",
        ],
        &["wasi:keyvalue/store@0.2.0-draft"],
    ];
    for (sink, own) in SINKS.iter().zip(own) {
        let component = fs::read(composed(sink)).expect("reads");
        let (imports, exports) = names(&component);
        let expected = IMPORTS.iter().chain(own).map(|name| (*name).to_owned());
        assert_eq!(imports, expected.collect(), "{sink}");
        let expected = BTreeSet::from(EXPORTS.map(str::to_owned));
        assert_eq!(exports, expected, "{sink}");
        Validator::new()
            .validate_all(&component)
            .unwrap_or_else(|error| panic!("{sink}: {error}"));
        assert!(component.len() < MAX_COMPOSED_BYTES, "{sink}");
    }
}

#[test]
fn without_a_sink_it_is_the_built_in_one() {
    let files = Files::new();
    let file = files.path("peer.wasm");
    let output = run(&["component", "-o", &file]);
    assert_eq!(output.assert_ok(), "");
    assert!(fs::read(&file).expect("reads") == BUILT_IN_COMPONENT);
    const { assert!(BUILT_IN_COMPONENT.len() < MAX_BARE_BYTES) };
}

#[test]
fn dash_writes_to_standard_output() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_alldata-peer"));
    let program = program.args(["component", "--sink", "directory", "-o", "-"]);
    let output = program.output().expect("runs");
    assert!(output.status.success() && output.stderr.is_empty());
    assert!(output.stdout == fs::read(composed("directory")).expect("reads"));
}

#[test]
fn foreign_sink_is_plugged_in_and_served() {
    let files = Files::new();
    let (plug, file) = (files.wat("plug.wasm", &sink()), files.path("peer.wasm"));
    run(&["component", "--plug", &plug, "-o", &file]).assert_ok();
    let component = fs::read(&file).expect("reads");
    assert!(!names(&component).0.contains(PUT_SINK));
    let peer = Peer::builder().arguments(&["--component", &file]).start();
    peer.put("key1", "1").assert_created();
    peer.put("", "1").assert_problem(400);
    assert!(!peer.file("alldata.db").exists());
}

#[test]
fn unfit_plug_is_an_error_with_the_reason() {
    let files = Files::new();
    let other =
        format!(r#"(component {CORE} {PUT_OF_A_KEY} (export "{PUT_SINK}" (instance $sink)))"#);
    let later = sink().replace(PUT_SINK, "alldata:peer/put-sink@0.2.0");
    let function = format!(r#"(component {CORE} {PUT_OF_A_KEY} (export "put" (func $put)))"#);
    let plugs = [
        (files.path("none"), "cannot read "),
        (files.path("."), "cannot read "),
        (
            files.write("text", b"(component)"),
            "it is not a WebAssembly component",
        ),
        (
            files.write("nothing", b""),
            "it is not a WebAssembly component",
        ),
        (
            files.wat("module", "(module)"),
            "it is not a WebAssembly component",
        ),
        (files.wat("empty", "(component)"), "it exports nothing"),
        (
            files.wat("function", &function),
            "it exports put, but no put-sink",
        ),
        (
            files.wat("other", &other),
            "put-sink@0.1.0 is not that of `alldata-peer component --wit`",
        ),
        (
            files.wat("later", &later),
            "put-sink@0.2.0 is not that of `alldata-peer component --wit`",
        ),
        (
            files.wat("again", &again()),
            "would still import alldata:peer/put-sink@0.1.0",
        ),
    ];
    for (plug, reason) in plugs {
        let to = files.path("peer.wasm");
        let output = run(&["component", "--plug", &plug, "-o", &to]);
        let sentence = output.assert_failed(1);
        assert!(
            sentence.contains(reason) && sentence.contains(&plug),
            "{sentence}"
        );
        assert!(!Path::new(&to).exists(), "{sentence}");
    }
}

#[test]
fn unwritable_component_is_named() {
    let output = run(&["component", "--sink", "forward", "-o", "/nowhere/peer.wasm"]);
    assert!(
        output
            .assert_failed(1)
            .contains("cannot write /nowhere/peer.wasm")
    );
}

#[test]
fn conflicting_flags_are_wrong_usage() {
    let arguments: [&[&str]; 10] = [
        &[],
        &["--sink", "forward"],
        &["--plug", "a.wasm"],
        &["--sink", "forward", "--plug", "a.wasm", "-o", "b.wasm"],
        &["--sink", "sqlite", "-o", "b.wasm"],
        &["--sink", "forward", "--sink", "directory", "-o", "b.wasm"],
        &["--wit", "-o", "b.wit"],
        &["--wit", "--sink", "forward"],
        &["--wit", "--plug", "a.wasm"],
        &["--digest", "--sink", "forward"],
    ];
    for arguments in arguments {
        run(&[&["component"], arguments].concat()).assert_failed(2);
    }
}

#[test]
fn digests_are_those_of_the_files() {
    let directory = TempDir::new().expect("creates a directory");
    let path = |file: &str| directory.path().join(file).display().to_string();
    run(&["component", "-o", &path("peer.wasm")]).assert_ok();
    for sink in SINKS {
        let file = path(&format!("peer-{sink}.wasm"));
        run(&["component", "--sink", sink, "-o", &file]).assert_ok();
    }
    let digests = run(&["component", "--digest"]);
    let digests = digests.assert_ok();
    for sink in ["", "-forward", "-directory"] {
        let file = path(&format!("peer{sink}-wasi-0.3.wasm"));
        let sink = sink.trim_start_matches('-');
        let sink: &[&str] = if sink.is_empty() {
            &[]
        } else {
            &["--sink", sink]
        };
        run(&[&["component", "--wasi", "0.3", "-o", &file], sink].concat()).assert_ok();
    }
    assert_eq!(digests.lines().count(), 1 + SINKS.len() + 3, "{digests}");
    fs::write(path("SHA256SUMS"), digests).expect("writes");
    let checked = Command::new("sha256sum")
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(directory.path())
        .output();
    let checked = checked.expect("runs sha256sum");
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn wit_is_complete_and_has_the_world_of_a_sink() {
    let output = run(&["component", "--wit"]);
    let mut resolve = Resolve::default();
    let package = resolve.push_str("put-sink.wit", output.assert_ok());
    let package = package.expect("is WIT that needs no other");
    assert_eq!(
        resolve.packages[package].name.to_string(),
        "alldata:peer@0.1.0"
    );
    let world = |name: &str| {
        let world = resolve.packages[package].worlds[name];
        let world = &resolve.worlds[world];
        let names = |items: Vec<&WorldItem>| -> Vec<Option<String>> {
            let is_interface = |item: &&WorldItem| matches!(item, WorldItem::Interface { .. });
            assert!(items.iter().all(is_interface));
            let id = |item: &WorldItem| match item {
                WorldItem::Interface { id, .. } => resolve.id_of(*id),
                _ => None,
            };
            items.into_iter().map(id).collect()
        };
        let (imports, exports) = (world.imports.values(), world.exports.values());
        (names(imports.collect()), names(exports.collect()))
    };
    let put_sink = vec![Some(PUT_SINK.to_owned())];
    assert_eq!(world("sink"), (vec![], put_sink.clone()));
    let protocol = vec![Some(EXPORTS[0].to_owned())];
    assert_eq!(world("peer"), (put_sink, protocol));
}

/// A sink that accepts every put and stores nothing.
fn sink() -> String {
    // An exported function refers to types by their exports, hence the nested component.
    let put = r#"(func (param "key" string) (param "event" string) (result (result (error"#;
    format!(
        r#"(component {CORE}
            (type $error {PUT_ERROR})
            (func $put (param "key" string) (param "event" string) (result (result (error $error)))
                (canon lift (core func $core "put") (memory (core memory $core "memory"))
                    (realloc (core func $core "realloc"))))
            (component $names
                (type $error {PUT_ERROR})
                (import "error" (type $imported (eq $error)))
                (import "put" {put} $imported)))))
                (export $exported "put-error" (type $error))
                (export "put" (func 0) {put} $exported))))))
            (instance $sink (instantiate $names
                (with "error" (type $error)) (with "put" (func $put))))
            (export "{PUT_SINK}" (instance $sink)))"#
    )
}

/// A sink that passes puts on to another sink.
fn again() -> String {
    format!(
        r#"(component
            (import "{PUT_SINK}" (instance $sink
                (type $variant {PUT_ERROR})
                (export "put-error" (type $error (eq $variant)))
                (export "put" (func (param "key" string) (param "event" string)
                    (result (result (error $error)))))))
            (export "{PUT_SINK}" (instance $sink)))"#
    )
}

/// Files for the program, in a temporary directory.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("makes a directory"))
    }

    fn path(&self, name: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        path.into_os_string().into_string().expect("is text")
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, bytes).expect("writes");
        path
    }

    /// Writes a component from its text form.
    fn wat(&self, name: &str, text: &str) -> String {
        let bytes = wat::parse_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        self.write(name, &bytes)
    }
}

/// A module whose `put` does nothing: the result at address 0 stays zero, which is `ok`.
const CORE: &str = r#"
    (core module $module
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
        (func (export "put") (param i32 i32 i32 i32) (result i32) (i32.const 0))
        (func (export "put-key") (param i32 i32)))
    (core instance $core (instantiate $module))"#;

/// A `put` with a key and no event.
const PUT_OF_A_KEY: &str = r#"
    (func $put (param "key" string)
        (canon lift (core func $core "put-key") (memory (core memory $core "memory")) (realloc (core func $core "realloc"))))
    (instance $sink (export "put" (func $put)))"#;
