//! `component`: writes or compiles the component, alone or composed with a sink into a complete server.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use alldata_peer_server_http::precompile;
use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum as _;
use sha2::{Digest as _, Sha256};
use wac_graph::types::{Package, Types};
use wac_graph::{CompositionGraph, EncodeOptions, PlugError, Processor};
use wasm_metadata_wac::{
    AddMetadata, AddMetadataField, Description, Homepage, Licenses, Source, Version,
};

use crate::arguments::{BuiltInSink, Component, Wasi};
use crate::built_in;
use crate::output;

/// The package of the interfaces between a peer and a sink.
const INTERFACES: &str = "alldata:peer/";

/// The interface of sinks, without its version.
const PUT_SINK: &str = "alldata:peer/put-sink@";

/// The interface that a component has to export to be served, without the last part of its version.
const HANDLER: &str = "wasi:http/incoming-handler@0.2";

/// What one for WASI 0.3 exports instead.
const HANDLER_0_3: &str = "wasi:http/handler@0.3";

/// The names of the two sides in a composition.
const PEER: &str = "alldata:peer-server";
const SINK: &str = "alldata:peer-sink";

/// The program that composes, in the metadata of the result.
const PROCESSOR: Processor<'_> = Processor {
    name: "alldata-peer",
    version: env!("CARGO_PKG_VERSION"),
};

/// The WIT for authors of sinks: the interfaces and the worlds.
const WIT: [&str; 3] = [
    include_str!("../../../wit/put-sink.wit"),
    include_str!("../../../wit/protocol.wit"),
    include_str!("../../../wit/worlds.wit"),
];

/// The same for WASI 0.3.
const WIT_0_3: &str = include_str!("../../../wit/wasi-0.3/put-sink.wit");

/// Runs the command.
pub(crate) fn component(arguments: &Component) -> Result<()> {
    if arguments.wit {
        let text = match arguments.wasi {
            Wasi::V0_2 => wit(),
            Wasi::V0_3 => WIT_0_3.to_owned(),
        };
        return output::write_line(text.trim_end());
    }
    if arguments.digest {
        return output::write_line(&digests()?);
    }
    let peer = built_in::peer(arguments.wasi);
    let bytes: Cow<'_, [u8]> = match (arguments.sink, &arguments.plug) {
        (Some(sink), _) => compose(sink, arguments.wasi)?.into(),
        (None, Some(file)) => plug(peer, &read(file)?)
            .with_context(|| format!("cannot compose the component with {}", file.display()))?
            .into(),
        (None, None) => match &arguments.file {
            Some(file) => read(file)?.into(),
            None => peer.into(),
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
    ensure!(
        !exports.iter().any(|name| name.starts_with(HANDLER_0_3)),
        "{}: it is made for WASI 0.3, and this host runs components for 0.2",
        cannot_use()
    );
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
    let mut lines = Vec::new();
    for wasi in [Wasi::V0_2, Wasi::V0_3] {
        let suffix = suffix(wasi);
        let peer = line(built_in::peer(wasi), &format!("peer{suffix}.wasm"));
        lines.push(peer);
        let sinks = BuiltInSink::value_variants().iter();
        for sink in sinks.filter(|sink| sink.component(wasi).is_ok()) {
            let file = format!("peer-{}{suffix}.wasm", sink.name());
            lines.push(line(&compose(*sink, wasi)?, &file));
        }
    }
    Ok(lines.join("\n"))
}

/// The component with a sink.
fn compose(sink: BuiltInSink, wasi: Wasi) -> Result<Vec<u8>> {
    let composed = sink
        .component(wasi)
        .and_then(|component| plug(built_in::peer(wasi), component))
        .and_then(|composed| describe(&composed, &format!("{}{}", sink.name(), suffix(wasi))));
    composed.with_context(|| format!("cannot compose the component with {}", sink.name()))
}

/// What the files of a release for a version of WASI end with.
fn suffix(wasi: Wasi) -> &'static str {
    match wasi {
        Wasi::V0_2 => "",
        Wasi::V0_3 => "-wasi-0.3",
    }
}

/// Adds metadata to a composition with a built-in sink. The build script adds that of the parts.
fn describe(composed: &[u8], sink: &str) -> Result<Vec<u8>> {
    let mut metadata = AddMetadata::default();
    metadata.name = AddMetadataField::Set(format!("alldata-peer-{sink}"));
    metadata.version = AddMetadataField::Set(Version::new(env!("CARGO_PKG_VERSION")));
    metadata.licenses = AddMetadataField::Set(Licenses::new(env!("CARGO_PKG_LICENSE"))?);
    metadata.homepage = AddMetadataField::Set(Homepage::new(env!("CARGO_PKG_HOMEPAGE"))?);
    if let Some(url) = option_env!("BUILD_SOURCE_URL") {
        metadata.source = AddMetadataField::Set(Source::new(url)?);
    }
    metadata.description = AddMetadataField::Set(Description::new("AllData peer with a sink"));
    metadata.to_wasm(composed)
}

/// Composes a peer with `sink`, which replaces its import.
fn plug(peer: &[u8], sink: &[u8]) -> Result<Vec<u8>> {
    let mut graph = CompositionGraph::new();
    let peer = package(PEER, peer, graph.types_mut())?;
    let sink = package(SINK, sink, graph.types_mut())?;
    let exports: Vec<String> = graph.types()[sink.ty()].exports.keys().cloned().collect();
    let peer = graph.register_package(peer)?;
    let sink = graph.register_package(sink)?;
    match wac_graph::plug(&mut graph, vec![sink], peer) {
        Ok(()) => {}
        Err(PlugError::NoPlugHappened) => bail!(not_a_sink(&exports)),
        Err(PlugError::GraphError { source }) => return Err(source),
    }
    let options = EncodeOptions {
        processor: Some(PROCESSOR),
        ..EncodeOptions::default()
    };
    let composed = graph.encode(options)?;
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
