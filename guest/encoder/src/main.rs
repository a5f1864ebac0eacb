//! Encodes a core module as a component with metadata: `MODULE COMPONENT NAME RUSTC SECTION=TEXT…`.
//!
//! The build script of the host runs it. It is a program of its own so that embedders, whose package has ready
//! components, do not compile the encoder.

mod reexport;

use std::env;
use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use wasm_encoder::{ComponentSection as _, CustomSection};
use wasm_metadata::{AddMetadata, AddMetadataField};
use wit_component::ComponentEncoder;

/// The function of a peer that a host calls for each put.
const DECODE: &str = "alldata:peer/protocol@0.1.0#decode";

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [module, component, name, rustc, sections @ ..] = arguments.as_slice() else {
        bail!("the arguments are not MODULE COMPONENT NAME RUSTC SECTION=TEXT…");
    };
    let read = fs::read(module).with_context(|| format!("cannot read {module}"))?;
    let encoded = ComponentEncoder::default()
        .validate(true)
        .module(&read)?
        .encode()
        .with_context(|| format!("cannot encode {module}"))?;
    let encoded = reexport::reexport(encoded, &read, DECODE)?;
    let mut described = set_name(&encoded, name, rustc)?;
    for section in sections {
        let (name, text) = section
            .split_once('=')
            .with_context(|| format!("{section} is not SECTION=TEXT"))?;
        ensure!(!text.is_empty(), "the metadata has no {name}");
        let (name, data) = (name.into(), text.as_bytes().into());
        CustomSection { name, data }.append_to_component(&mut described);
    }
    fs::write(component, described).with_context(|| format!("cannot write {component}"))
}

/// Replaces the names of a component's parts, which are several kilobytes, by the name of the component, and adds the
/// compiler.
fn set_name(component: &[u8], name: &str, rustc: &str) -> Result<Vec<u8>> {
    let mut without_names = AddMetadata::default();
    without_names.name = AddMetadataField::Clear;
    let mut metadata = AddMetadata::default();
    metadata.name = AddMetadataField::Set(name.to_owned());
    metadata.language = vec![("Rust".to_owned(), String::new())];
    metadata.processed_by = vec![("rustc".to_owned(), rustc.to_owned())];
    metadata.to_wasm(&without_names.to_wasm(component)?)
}
