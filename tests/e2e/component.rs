//! The components as files: imports, exports, custom sections and metadata. They are not run.

use std::collections::BTreeSet;
use std::fs;

use alldata_peer_server_http::BUILT_IN_COMPONENT;
use tempfile::tempdir;
use wasm_metadata_wac::Payload as Described;
use wasmparser::{Parser, Payload, Validator};

use crate::support::{SINKS, composed, composed_for_wasi_0_3, run};

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

/// Asks the library of `wasm-tools metadata show`.
#[test]
fn components_have_name_version_licence_homepage_and_compiler() {
    let directory = tempdir().expect("makes a directory");
    let file = directory.path().join("peer.wasm");
    let path = file.to_str().expect("is text");
    run(&["component", "--wasi", "0.3", "-o", path]).assert_ok();
    let mut components = vec![
        ("alldata-peer".to_owned(), BUILT_IN_COMPONENT.to_vec()),
        (
            "alldata-peer-wasi-0.3".to_owned(),
            fs::read(&file).expect("reads"),
        ),
    ];
    for sink in SINKS {
        let component = fs::read(composed(sink)).expect("reads");
        components.push((format!("alldata-peer-{sink}"), component));
    }
    for sink in ["forward", "directory"] {
        let component = fs::read(composed_for_wasi_0_3(sink)).expect("reads");
        components.push((format!("alldata-peer-{sink}-wasi-0.3"), component));
    }
    for (name, component) in components {
        let described = Described::from_binary(&component).expect("parses");
        assert_metadata(&described, &name);
    }
}

/// Checks the metadata of a component, and of the components in it.
fn assert_metadata(component: &Described, name: &str) {
    let metadata = component.metadata();
    assert_eq!(metadata.name.as_deref(), Some(name));
    let text = |field: Option<String>| field.unwrap_or_else(|| panic!("{name} lacks a field"));
    let version = metadata.version.as_ref().map(ToString::to_string);
    assert_eq!(text(version), env!("CARGO_PKG_VERSION"), "{name}");
    let licenses = metadata.licenses.as_ref().map(ToString::to_string);
    assert_eq!(text(licenses), env!("CARGO_PKG_LICENSE"), "{name}");
    let homepage = metadata.homepage.as_ref().map(ToString::to_string);
    assert_eq!(text(homepage), env!("CARGO_PKG_HOMEPAGE"), "{name}");
    // Empty before there is a public repository.
    let source = metadata.source.as_ref().map(ToString::to_string);
    assert_eq!(
        source.unwrap_or_default(),
        env!("CARGO_PKG_REPOSITORY"),
        "{name}"
    );
    let description = metadata.description.as_ref().map(ToString::to_string);
    assert!(text(description).contains("AllData peer"), "{name}");
    let producers = metadata.producers.as_ref().expect("has producers");
    let tools = producers.get("processed-by").expect("has tools");
    let Described::Component { children, .. } = component else {
        panic!("{name} is a module");
    };
    let parts = children.iter().filter_map(|child| {
        let name = child.metadata().name.as_deref()?;
        matches!(child, Described::Component { .. }).then_some((child, name))
    });
    let parts: Vec<_> = parts
        .filter(|(_, name)| name.starts_with("alldata-"))
        .collect();
    if parts.is_empty() {
        assert!(tools.get("rustc").is_some(), "{name}");
    } else {
        assert_eq!(parts.len(), 2, "{name} is a peer with a sink");
        assert!(tools.get("alldata-peer").is_some(), "{name}");
    }
    for (part, name) in parts {
        assert_metadata(part, name);
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
