//! The built-in component as a file: its imports, exports and custom sections. It is not run.

use std::collections::BTreeSet;

use alldata_peer_server_http::BUILT_IN_COMPONENT;
use wasmparser::{Parser, Payload, Validator};

/// The exports of the component, composed or not: the entry point for every platform, and `protocol`.
pub(crate) const EXPORTS: [&str; 2] = [
    "alldata:peer/protocol@0.1.0",
    "wasi:http/incoming-handler@0.2.12",
];

#[test]
fn component_imports_are_exact() {
    let imports = [
        "alldata:peer/put-sink@0.1.0",
        "wasi:http/types@0.2.12",
        "wasi:io/error@0.2.12",
        "wasi:io/streams@0.2.12",
    ];
    assert_eq!(
        names(BUILT_IN_COMPONENT).0,
        BTreeSet::from(imports.map(str::to_owned))
    );
}

#[test]
fn component_exports_are_exact() {
    assert_eq!(
        names(BUILT_IN_COMPONENT).1,
        BTreeSet::from(EXPORTS.map(str::to_owned))
    );
}

#[test]
fn component_is_valid() {
    Validator::new()
        .validate_all(BUILT_IN_COMPONENT)
        .expect("is valid");
}

#[test]
fn component_contains_no_path_of_the_build_machine() {
    let text = String::from_utf8_lossy(BUILT_IN_COMPONENT);
    for trace in [".cargo", ".rustup", "/src/", env!("CARGO_MANIFEST_DIR")] {
        assert!(!text.contains(trace), "it contains {trace:?}");
    }
}

/// The names of the imports and exports of a component, without those of nested components.
pub(crate) fn names(component: &[u8]) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut imports, mut exports) = (BTreeSet::new(), BTreeSet::new());
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload.expect("parses") {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                imports.extend(
                    section
                        .into_iter()
                        .map(|import| import.expect("parses").name.name.to_owned()),
                );
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                exports.extend(
                    section
                        .into_iter()
                        .map(|export| export.expect("parses").name.name.to_owned()),
                );
            }
            _ => {}
        }
    }
    (imports, exports)
}
