//! Writes components, and WIT packages, as an OCI image layout: `alldata-peer-oci-layout DIRECTORY CREATED
//! NAME:VERSION=FILE…`, where CREATED is a time such as `2026-11-27T00:00:00Z`, and a FILE in WIT ends with `.wit`.
//!
//! Each artifact is one manifest with one layer, of the media types of the CNCF's "Wasm OCI Artifact layout", which
//! `wkg`, wasmCloud and Spin pull. The same input gives the same bytes.

use std::env;
use std::fs::{self, DirEntry};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use wasm_metadata_wac::Payload;
use wit_component::DecodedWasm;
use wit_parser::Resolve;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";

/// The operating system of all components, of WASI 0.3 too: the layout defines no other.
const OS: &str = "wasip2";

/// The prefix of annotations.
const ANNOTATION: &str = "org.opencontainers.image";

/// What an OCI layout has. A directory with something else is not removed.
const ENTRIES: [&str; 3] = ["blobs", "index.json", "oci-layout"];

/// The end of the name of a layout that is being written.
const PARTIAL: &str = ".partial";

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [directory, created, artifacts @ ..] = arguments.as_slice() else {
        bail!("the arguments are not DIRECTORY CREATED NAME:VERSION=FILE…");
    };
    let layout = Layout::create(Path::new(directory))?;
    let mut manifests = Vec::new();
    for artifact in artifacts {
        let parts = artifact.split_once('=').and_then(|(reference, file)| {
            let (name, version) = reference.split_once(':')?;
            Some((reference, name, version, file))
        });
        let (reference, name, version, file) =
            parts.with_context(|| format!("{artifact} is not NAME:VERSION=FILE"))?;
        let mut manifest = layout
            .add(name, version, Path::new(file), created)
            .with_context(|| format!("cannot add {file}"))?;
        manifest["annotations"] = json!({ format!("{ANNOTATION}.ref.name"): reference });
        manifests.push(manifest);
    }
    layout.finish(&manifests)
}

/// A directory with blobs, each under its digest. It is written beside its place, so that a run that ends early leaves
/// neither a part of a layout there nor blobs for the next run.
struct Layout {
    place: PathBuf,
    partial: PathBuf,
}

impl Layout {
    /// An empty one, which takes the place of an earlier one when it is finished.
    fn create(place: &Path) -> Result<Self> {
        let entries = entries(place)?;
        if let Some(other) = entries
            .iter()
            .find(|name| !ENTRIES.contains(&name.as_str()))
        {
            bail!("{} is not an OCI layout: it has {other}", place.display());
        }
        let mut partial = place.as_os_str().to_owned();
        partial.push(PARTIAL);
        let partial = PathBuf::from(partial);
        remove(&partial)?;
        fs::create_dir_all(partial.join("blobs/sha256"))
            .with_context(|| format!("cannot create {}", partial.display()))?;
        let place = place.to_owned();
        Ok(Self { place, partial })
    }

    /// Adds an artifact. Returns the descriptor of its manifest.
    fn add(&self, name: &str, version: &str, file: &Path, created: &str) -> Result<Value> {
        let wasm = match file.extension() {
            Some(extension) if extension == "wit" => encode_wit(file)?,
            _ => fs::read(file)?,
        };
        let mut layer = self.blob(LAYER, &wasm)?;
        layer["annotations"] = json!({ format!("{ANNOTATION}.title"): format!("{name}.wasm") });
        let config = json!({
            "created": created,
            "author": null,
            "architecture": "wasm",
            "os": OS,
            "layerDigests": [layer["digest"]],
            "component": interfaces(&wasm)?,
        });
        let config = self.blob(CONFIG, config.to_string().as_bytes())?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": [layer],
            "annotations": annotations(&wasm, version, created)?,
        });
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    /// Writes a blob. Returns its descriptor.
    fn blob(&self, media_type: &str, bytes: &[u8]) -> Result<Value> {
        let digest = format!("{:x}", Sha256::digest(bytes));
        fs::write(self.partial.join("blobs/sha256").join(&digest), bytes)?;
        Ok(json!({
            "mediaType": media_type,
            "digest": format!("sha256:{digest}"),
            "size": bytes.len(),
        }))
    }

    fn finish(self, manifests: &[Value]) -> Result<()> {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        let version = json!({ "imageLayoutVersion": "1.0.0" });
        fs::write(self.partial.join("index.json"), index.to_string())?;
        fs::write(self.partial.join("oci-layout"), version.to_string())?;
        remove(&self.place)?;
        fs::rename(&self.partial, &self.place)
            .with_context(|| format!("cannot rename {}", self.partial.display()))
    }
}

/// The names in a directory. None if it does not exist.
fn entries(directory: &Path) -> Result<Vec<String>> {
    let names = match fs::read_dir(directory) {
        Ok(names) => names,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(format!("cannot list {}", directory.display())),
    };
    let text = |name: io::Result<DirEntry>| Ok(name?.file_name().to_string_lossy().into_owned());
    names.map(text).collect()
}

/// Removes a directory, if it exists.
fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).context(format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// A WIT package in its binary form, as `wkg wit build` writes it.
fn encode_wit(file: &Path) -> Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str(file, &fs::read_to_string(file)?)?;
    wit_component::encode(&resolve, package)
}

/// The imports and exports of a component, or what a WIT package has.
fn interfaces(wasm: &[u8]) -> Result<Value> {
    let (imports, exports) = match wit_component::decode(wasm)? {
        DecodedWasm::Component(resolve, world) => {
            let world = &resolve.worlds[world];
            let name = |key| resolve.name_world_key(key);
            let imports: Vec<_> = world.imports.keys().map(name).collect();
            (imports, world.exports.keys().map(name).collect())
        }
        DecodedWasm::WitPackage(resolve, package) => {
            let package = &resolve.packages[package];
            let worlds = package.worlds.keys();
            let worlds = worlds.map(|world| package.name.interface_id(world));
            let ids = package.interfaces.values();
            let ids = ids.filter_map(|interface| resolve.id_of(*interface));
            (Vec::new(), ids.chain(worlds).collect::<Vec<_>>())
        }
    };
    Ok(json!({ "exports": exports, "imports": imports, "target": null }))
}

/// The metadata of a component as annotations.
fn annotations(wasm: &[u8], version: &str, created: &str) -> Result<Map<String, Value>> {
    let payload = Payload::from_binary(wasm)?;
    let metadata = payload.metadata();
    let text = |field: Option<String>| field.map(Value::from);
    let fields = [
        ("created", Some(created.into())),
        ("title", text(metadata.name.clone())),
        ("version", Some(version.into())),
        (
            "licenses",
            text(metadata.licenses.as_ref().map(ToString::to_string)),
        ),
        (
            "url",
            text(metadata.homepage.as_ref().map(ToString::to_string)),
        ),
        (
            "source",
            text(metadata.source.as_ref().map(ToString::to_string)),
        ),
        (
            "description",
            text(metadata.description.as_ref().map(ToString::to_string)),
        ),
    ];
    let fields = fields.into_iter();
    Ok(fields
        .filter_map(|(name, value)| Some((format!("{ANNOTATION}.{name}"), value?)))
        .collect())
}
