//! The imports of composed components, compared with what platforms that can't be run here document, version by
//! version.
//!
//! The platforms that can be run are in `platforms`.

use std::collections::{BTreeMap, BTreeSet};

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::support::{SINKS, composed};

/// A platform, in the versions that offer the same interfaces.
struct World {
    platform: &'static str,
    /// Its interfaces of WASI 0.2, in any release of that.
    wasi: &'static [&'static str],
    /// Its other interfaces, with their exact versions.
    drafts: &'static [&'static str],
    /// The sinks that are made for it.
    sinks: &'static [&'static str],
}

const SPIN_KEYVALUE: &[&str] = &[
    "wasi:keyvalue/store@0.2.0-draft2",
    "wasi:keyvalue/atomics@0.2.0-draft2",
    "wasi:keyvalue/batch@0.2.0-draft2",
];

const WASMCLOUD_KEYVALUE: &[&str] = &[
    "wasi:keyvalue/store@0.2.0-draft",
    "wasi:keyvalue/atomics@0.2.0-draft",
    "wasi:keyvalue/batch@0.2.0-draft",
];

/// The world `wasi:cli/imports` without sockets, and what a handler needs of `wasi:http`.
const CLI_AND_HTTP: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// Source: the worlds `spin-http` and `http-trigger` in Spin's repository, and the interfaces that wasmCloud's
/// host logs at its start.
const WORLDS: &[World] = &[
    World {
        platform: "Spin 3.0 to 3.4, with WASI 0.2.0",
        wasi: CLI_AND_HTTP,
        drafts: SPIN_KEYVALUE,
        sinks: &["keyvalue-spin", "forward"],
    },
    World {
        platform: "Spin 3.5 to 4.2, with WASI 0.2.6",
        wasi: CLI_AND_HTTP,
        drafts: SPIN_KEYVALUE,
        sinks: &["keyvalue-spin", "forward"],
    },
    World {
        platform: "wasmCloud 2.7 to 2.10, with WASI 0.2.12",
        wasi: CLI_AND_HTTP,
        drafts: WASMCLOUD_KEYVALUE,
        sinks: &["keyvalue-wasmcloud", "forward", "directory"],
    },
];

/// The functions that the components call, all of which WASI 0.2.0 has: later releases added others.
const WASI_0_2_0: &[(&str, &[&str])] = &[
    ("wasi:cli/environment", &["get-environment"]),
    ("wasi:cli/stderr", &["get-stderr"]),
    ("wasi:clocks/monotonic-clock", &["subscribe-duration"]),
    ("wasi:filesystem/preopens", &["get-directories"]),
    (
        "wasi:filesystem/types",
        &[
            "[method]descriptor.create-directory-at",
            "[method]descriptor.link-at",
            "[method]descriptor.open-at",
            "[method]descriptor.read",
            "[method]descriptor.sync",
            "[method]descriptor.unlink-file-at",
            "[method]descriptor.write",
        ],
    ),
    ("wasi:http/outgoing-handler", &["handle"]),
    (
        "wasi:http/types",
        &[
            "[constructor]fields",
            "[constructor]outgoing-request",
            "[constructor]outgoing-response",
            "[constructor]request-options",
            "[method]fields.get",
            "[method]future-incoming-response.get",
            "[method]future-incoming-response.subscribe",
            "[method]incoming-body.stream",
            "[method]incoming-request.consume",
            "[method]incoming-request.headers",
            "[method]incoming-request.method",
            "[method]incoming-response.consume",
            "[method]incoming-response.headers",
            "[method]incoming-response.status",
            "[method]outgoing-body.write",
            "[method]outgoing-request.body",
            "[method]outgoing-request.set-authority",
            "[method]outgoing-request.set-method",
            "[method]outgoing-request.set-path-with-query",
            "[method]outgoing-request.set-scheme",
            "[method]outgoing-response.body",
            "[method]outgoing-response.set-status-code",
            "[method]request-options.set-connect-timeout",
            "[static]fields.from-list",
            "[static]incoming-body.finish",
            "[static]outgoing-body.finish",
            "[static]response-outparam.set",
        ],
    ),
    ("wasi:io/error", &[]),
    ("wasi:io/poll", &["[method]pollable.ready", "poll"]),
    (
        "wasi:io/streams",
        &[
            "[method]input-stream.blocking-read",
            "[method]input-stream.read",
            "[method]input-stream.subscribe",
            "[method]output-stream.blocking-write-and-flush",
            "[method]output-stream.check-write",
            "[method]output-stream.flush",
            "[method]output-stream.subscribe",
            "[method]output-stream.write",
        ],
    ),
    ("wasi:random/random", &["get-random-u64"]),
];

#[test]
fn platform_offers_all_imports_of_its_sinks() {
    for world in WORLDS {
        for sink in world.sinks {
            for interface in imports(sink).keys() {
                assert!(
                    world.offers(interface),
                    "{} has no {interface}, which {sink} needs",
                    world.platform
                );
            }
        }
    }
}

#[test]
fn called_functions_are_those_of_wasi_0_2_0() {
    let mut called: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (interface, functions) in SINKS.into_iter().flat_map(imports) {
        let (name, version) = interface.split_once('@').expect("has a version");
        if !version.contains("draft") {
            called.entry(name.to_owned()).or_default().extend(functions);
        }
    }
    let known = WASI_0_2_0.iter().map(|(name, functions)| {
        let functions = functions.iter().map(|function| (*function).to_owned());
        ((*name).to_owned(), functions.collect())
    });
    assert_eq!(called, known.collect());
}

impl World {
    /// Whether the platform has an interface, by the rule of the component model: releases of 0.2 are
    /// compatible as far as the functions exist, and drafts only with themselves.
    fn offers(&self, interface: &str) -> bool {
        let (name, version) = interface.split_once('@').expect("has a version");
        let is_release = version.starts_with("0.2.") && !version.contains('-');
        self.drafts.contains(&interface) || is_release && self.wasi.contains(&name)
    }
}

/// The interfaces that a composed component imports, with their functions.
fn imports(sink: &str) -> BTreeMap<String, Vec<String>> {
    let engine = Engine::default();
    let component = Component::from_file(&engine, composed(sink));
    let component = component.expect("is a component");
    let imports = component.component_type();
    let imports = imports.imports(&engine).map(|(interface, item)| {
        let ComponentItem::ComponentInstance(instance) = item.ty else {
            panic!("{interface} is no interface");
        };
        let functions = instance.exports(&engine);
        let functions =
            functions.filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
        let functions = functions.map(|(name, _)| name.to_owned()).collect();
        (interface.to_owned(), functions)
    });
    imports.collect()
}
