//! `component`: writes or compiles the component, alone or composed with a sink into a complete server.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use alldata_peer_server_http::{BUILT_IN_COMPONENT, precompile};
use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum as _;
use clap::builder::PossibleValue;
use sha2::{Digest as _, Sha256};
use wac_graph::types::{Package, Types};
use wac_graph::{CompositionGraph, EncodeOptions, PlugError};

use crate::arguments::{BuiltInSink, Component};
use crate::output;

/// The package of the interfaces between a peer and a sink.
const INTERFACES: &str = "alldata:peer/";

/// The interface of sinks, without its version.
const PUT_SINK: &str = "alldata:peer/put-sink@";

/// The interface that a component has to export to be served, without the last part of its version.
const HANDLER: &str = "wasi:http/incoming-handler@0.2";

/// The names of the two sides in a composition.
const PEER: &str = "alldata:peer-server";
const SINK: &str = "alldata:peer-sink";

/// The WIT for authors of sinks: the interfaces and the worlds.
const WIT: [&str; 3] = [
    include_str!("../../../wit/put-sink.wit"),
    include_str!("../../../wit/protocol.wit"),
    include_str!("../../../wit/worlds.wit"),
];

/// Runs the command.
pub(crate) fn component(arguments: &Component) -> Result<()> {
    if arguments.wit {
        return output::write_line(wit().trim_end());
    }
    if arguments.digest {
        return output::write_line(&digests()?);
    }
    let bytes: Cow<'_, [u8]> = match (arguments.sink, &arguments.plug) {
        (Some(sink), _) => plug(sink.component())
            .with_context(|| format!("cannot compose the component with {sink:?}"))?
            .into(),
        (None, Some(file)) => plug(&read(file)?)
            .with_context(|| format!("cannot compose the component with {}", file.display()))?
            .into(),
        (None, None) => match &arguments.file {
            Some(file) => read(file)?.into(),
            None => BUILT_IN_COMPONENT.into(),
        },
    };
    if let Some(path) = &arguments.output {
        output::write_whole(path, &bytes)?;
    }
    if let Some(directory) = &arguments.precompile {
        precompile(&bytes, directory)?;
    }
    Ok(())
}

/// Reads a component.
fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Whether a component to be served imports `put-sink`, and so needs a sink of the host.
pub(crate) fn needs_sink(path: &Path) -> Result<bool> {
    let cannot_use = || format!("cannot use the component {}", path.display());
    // A server reads the file twice, so it cannot be a pipe; and a pipe without a writer never ends.
    if let Ok(found) = fs::metadata(path) {
        ensure!(
            found.is_file() || found.is_dir(),
            "{}: it is not a regular file",
            cannot_use()
        );
    }
    let (imports, exports) = interfaces(&read(path)?).with_context(cannot_use)?;
    let is_handler = |name: &String| name.starts_with(HANDLER);
    ensure!(
        exports.iter().any(is_handler),
        "{}: it exports no {HANDLER}",
        cannot_use()
    );
    Ok(imports.iter().any(|name| name.starts_with(PUT_SINK)))
}

/// The files of a package as one, which declares the package once.
fn wit() -> String {
    let header = WIT[0].lines().next().unwrap_or_default();
    let rest = WIT
        .iter()
        .map(|file| file.strip_prefix(header).unwrap_or(file));
    std::iter::once(header).chain(rest).collect()
}

/// The digest of the component alone and with each sink, with the name of its file in a release.
fn digests() -> Result<String> {
    let line = |bytes: &[u8], file: &str| format!("{:x}  {file}", Sha256::digest(bytes));
    let mut lines = vec![line(BUILT_IN_COMPONENT, "peer.wasm")];
    for sink in BuiltInSink::value_variants() {
        let name = sink.to_possible_value();
        let name = name.as_ref().map_or("", PossibleValue::get_name);
        let composed = plug(sink.component())
            .with_context(|| format!("cannot compose the component with {name}"))?;
        lines.push(line(&composed, &format!("peer-{name}.wasm")));
    }
    Ok(lines.join("\n"))
}

impl BuiltInSink {
    fn component(self) -> &'static [u8] {
        match self {
            Self::Forward => include_bytes!(concat!(env!("OUT_DIR"), "/components/forward.wasm")),
            Self::Directory => {
                include_bytes!(concat!(env!("OUT_DIR"), "/components/directory.wasm"))
            }
            Self::KeyvalueSpin => {
                include_bytes!(concat!(env!("OUT_DIR"), "/components/keyvalue-spin.wasm"))
            }
            Self::KeyvalueWasmcloud => {
                include_bytes!(concat!(
                    env!("OUT_DIR"),
                    "/components/keyvalue-wasmcloud.wasm"
                ))
            }
        }
    }
}

/// Composes the built-in component with `sink`, which replaces its import.
fn plug(sink: &[u8]) -> Result<Vec<u8>> {
    let mut graph = CompositionGraph::new();
    let peer = package(PEER, BUILT_IN_COMPONENT, graph.types_mut())?;
    let sink = package(SINK, sink, graph.types_mut())?;
    let exports: Vec<String> = graph.types()[sink.ty()].exports.keys().cloned().collect();
    let peer = graph.register_package(peer)?;
    let sink = graph.register_package(sink)?;
    match wac_graph::plug(&mut graph, vec![sink], peer) {
        Ok(()) => {}
        Err(PlugError::NoPlugHappened) => bail!(not_a_sink(&exports)),
        Err(PlugError::GraphError { source }) => return Err(source),
    }
    let composed = graph.encode(EncodeOptions::default())?;
    let (mut missing, _) = interfaces(&composed)?;
    missing.retain(|name| name.starts_with(INTERFACES));
    ensure!(
        missing.is_empty(),
        "the result would still import {}, which no platform provides",
        missing.join(" and ")
    );
    Ok(composed)
}

/// The reason why a component is not a sink.
fn not_a_sink(exports: &[String]) -> String {
    match exports.iter().find(|name| name.starts_with(PUT_SINK)) {
        Some(name) => format!("its {name} is not that of `alldata-peer component --wit`"),
        None if exports.is_empty() => "it exports nothing, but a sink exports put-sink".to_owned(),
        None => format!("it exports {}, but no put-sink", exports.join(" and ")),
    }
}

/// The names of all imports and of all exports of a component.
fn interfaces(component: &[u8]) -> Result<(Vec<String>, Vec<String>)> {
    let mut types = Types::new();
    let package = package(PEER, component, &mut types)?;
    let world = &types[package.ty()];
    let names = (world.imports.keys(), world.exports.keys());
    Ok((names.0.cloned().collect(), names.1.cloned().collect()))
}

fn package(name: &str, component: &[u8], types: &mut Types) -> Result<Package> {
    let package = Package::from_bytes(name, None, component, types);
    package.context("it is not a WebAssembly component")
}
