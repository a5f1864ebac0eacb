//! The paths of the programs that measure and are measured. The Makefile installs them.

use std::env;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

/// The path of the pinned wasmtime below the target directory, from `make bench-tools`.
const WASMTIME: &str = "tools/wasmtime-48/wasmtime_cli";

/// The directory of the npm package.
const NPM_PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/javascript");

/// A sink that does nothing, as a component.
const NO_OP_SINK: &str = include_str!("../components/no-op-sink.wat");

/// The programs, and a directory for their files. It is below the target directory, so that a store in it is on
/// a disk, and is removed when this is dropped.
pub(crate) struct Tools {
    pub(crate) peer: PathBuf,
    pub(crate) twin: PathBuf,
    pub(crate) slow_sink: PathBuf,
    pub(crate) wrk: PathBuf,
    pub(crate) oha: Option<PathBuf>,
    pub(crate) node: Option<PathBuf>,
    /// The directory of the npm package, if it is built.
    pub(crate) npm_package: Option<PathBuf>,
    pub(crate) wasmtime: Option<PathBuf>,
    pub(crate) etcd: Option<PathBuf>,
    pub(crate) redis: Option<PathBuf>,
    pub(crate) webdis: Option<PathBuf>,
    /// The peer's component, composed with [`NO_OP_SINK`].
    pub(crate) composed: PathBuf,
    /// The same for WASI 0.3.
    pub(crate) composed_wasi_0_3: PathBuf,
    pub(crate) certificate: Certificate,
    pub(crate) scratch: TempDir,
}

/// The PEM files of a certificate for the address 127.0.0.1, which signs itself.
pub(crate) struct Certificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

impl Tools {
    /// Finds the programs beside this one, where the Makefile installs them, or in the search path.
    pub(crate) fn find() -> Result<Self> {
        let program = env::current_exe()?;
        let built = program.parent().context("this program has no directory")?;
        let target = built.parent().context("it is in no target directory")?;
        let peer = built.join("alldata-peer");
        ensure!(peer.exists(), "{} is not built", peer.display());
        let scratch = tempfile::Builder::new()
            .prefix("bench-")
            .tempdir_in(target)?;
        let composed = compose(&peer, scratch.path(), "0.2", NO_OP_SINK)?;
        let composed_wasi_0_3 = compose(&peer, scratch.path(), "0.3", &no_op_sink_wasi_0_3())?;
        let installed = target.join("tools/bin");
        let optional = |name: &str, installed: &Path| {
            let path = search(name, installed);
            if path.is_none() {
                eprintln!("{name} is not there: what needs it is left out");
            }
            path
        };
        Ok(Self {
            twin: built.join("native-twin"),
            slow_sink: built.join("slow-sink"),
            wrk: search("wrk", &installed).context("wrk is not there: apt-get install wrk")?,
            oha: optional("oha", &installed),
            node: optional("node", &installed),
            npm_package: npm_package(),
            wasmtime: optional("wasmtime", &target.join(WASMTIME)),
            etcd: optional("etcd", &installed),
            redis: optional("redis-server", &installed),
            webdis: optional("webdis", &installed),
            peer,
            composed,
            composed_wasi_0_3,
            certificate: Certificate::write(scratch.path())?,
            scratch,
        })
    }

    /// The directory of compiled components, which are kept from one start to the next.
    pub(crate) fn cache(&self) -> PathBuf {
        self.scratch.path().join("cache")
    }
}

impl Certificate {
    fn write(directory: &Path) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let this = Self {
            chain: directory.join("certificate.pem"),
            key: directory.join("key.pem"),
        };
        fs::write(&this.chain, made.cert.pem())?;
        fs::write(&this.key, made.signing_key.serialize_pem())?;
        Ok(this)
    }
}

fn search(name: &str, installed: &Path) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    iter::once(installed.to_owned())
        .chain(env::split_paths(&path))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// The npm package of this repository, if the Makefile has built it.
fn npm_package() -> Option<PathBuf> {
    let package = Path::new(NPM_PACKAGE);
    let is_built = package.join("lib/generated/protocol.core.wasm").is_file();
    if !is_built {
        eprintln!("the npm package is not built: what needs it is left out");
    }
    is_built.then(|| package.to_owned())
}

/// The sink that does nothing, as a component for WASI 0.3: its function has the type of an asynchronous one.
fn no_op_sink_wasi_0_3() -> String {
    NO_OP_SINK
        .replace("put-sink@0.1.0", "put-sink@0.3.0")
        .replace("(func $put (param", "(func $put async (param")
        .replace("(func $put\n", "(func $put async\n")
        .replace("(func\n", "(func async\n")
}

/// Composes the peer's component for this version of WASI with a sink.
fn compose(peer: &Path, directory: &Path, wasi: &str, sink_text: &str) -> Result<PathBuf> {
    let sink = directory.join(format!("no-op-sink-{wasi}.wasm"));
    let composed = directory.join(format!("peer-{wasi}.wasm"));
    fs::write(&sink, wat::parse_str(sink_text)?)?;
    let status = Command::new(peer)
        .args(["component", "--wasi", wasi, "--plug"])
        .arg(&sink)
        .arg("-o")
        .arg(&composed)
        .status()?;
    ensure!(status.success(), "the component can't be composed");
    Ok(composed)
}
