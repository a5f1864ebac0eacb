//! The built-in component without its export `protocol`, so that a host has to call it through `wasi:http`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::process::scratch;
use alldata_peer_server_http::{BUILT_IN_COMPONENT, CompiledComponent};
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions};

/// The name of that export, without its version.
const HANDLER: &str = "wasi:http/incoming-handler@";

/// The component, compiled for all servers of this process.
pub fn handler_only() -> &'static CompiledComponent {
    static COMPONENT: OnceLock<CompiledComponent> = OnceLock::new();
    COMPONENT.get_or_init(|| compile(handler_only_binary()))
}

/// The bytes of the component.
pub fn handler_only_binary() -> &'static [u8] {
    static BINARY: OnceLock<Vec<u8>> = OnceLock::new();
    BINARY.get_or_init(|| handler_beside(None))
}

/// The built-in component, which is called through `protocol`, and this one, which is called through `wasi:http`.
pub fn both_components() -> [&'static CompiledComponent; 2] {
    static BUILT_IN: OnceLock<CompiledComponent> = OnceLock::new();
    let built_in = BUILT_IN.get_or_init(|| compile(BUILT_IN_COMPONENT));
    [built_in, handler_only()]
}

fn compile(binary: &[u8]) -> CompiledComponent {
    CompiledComponent::compile(binary).expect("is valid")
}

/// The file of the component.
pub fn handler_only_file() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let file = scratch().join("handler-only.wasm");
        fs::write(&file, handler_only_binary()).expect("writes");
        file
    })
}

/// The same with all exports of another component.
pub fn handler_beside(other: Option<&[u8]>) -> Vec<u8> {
    let mut graph = CompositionGraph::new();
    export(
        &mut graph,
        "alldata:peer-server",
        BUILT_IN_COMPONENT,
        HANDLER,
    );
    if let Some(other) = other {
        export(&mut graph, "alldata:other", other, "");
    }
    // Its imports stay imports, since nothing here provides them.
    graph.encode(EncodeOptions::default()).expect("encodes")
}

/// The built-in component with a sink that imports another, and with all exports of that sink.
pub fn peer_before(sink: &[u8]) -> Vec<u8> {
    let mut graph = CompositionGraph::new();
    let mut register = |name: &str, component: &[u8]| {
        let package = Package::from_bytes(name, None, component, graph.types_mut());
        let package = package.expect("is a component");
        graph.register_package(package).expect("is the first")
    };
    let peer = register("alldata:peer-server", BUILT_IN_COMPONENT);
    let sink = register("alldata:sink", sink);
    wac_graph::plug(&mut graph, vec![sink], peer).expect("fits");
    graph.encode(EncodeOptions::default()).expect("encodes")
}

/// Adds the exports of a component whose names start with `prefix`.
fn export(graph: &mut CompositionGraph, name: &str, component: &[u8], prefix: &str) {
    let package = Package::from_bytes(name, None, component, graph.types_mut());
    let package = package.expect("is a component");
    let exports = graph.types()[package.ty()].exports.keys();
    let exports = exports.filter(|export| export.starts_with(prefix)).cloned();
    let exports: Vec<String> = exports.collect();
    let package = graph.register_package(package).expect("is the first");
    let instance = graph.instantiate(package);
    for name in exports {
        let export = graph.alias_instance_export(instance, &name);
        let export = export.expect("is exported");
        graph.export(export, name).expect("is exported once");
    }
}
