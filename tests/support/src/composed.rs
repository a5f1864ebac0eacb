//! Components that the program under test composed, each of them once, and servers that run them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::process::scratch;
use super::{Peer, PeerBuilder, run};

/// The sinks of the program.
pub const SINKS: [&str; 4] = [
    "forward",
    "directory",
    "keyvalue-spin",
    "keyvalue-wasmcloud",
];

/// The file of the component that is composed with this sink.
pub fn composed(sink: &str) -> &'static Path {
    static FILES: [OnceLock<PathBuf>; SINKS.len()] = [const { OnceLock::new() }; SINKS.len()];
    let index = SINKS.iter().position(|name| *name == sink);
    FILES[index.expect("is a sink")].get_or_init(|| {
        // The next run replaces the file, atomically.
        let file = scratch().join(format!("{sink}.wasm"));
        let path = file.to_str().expect("is text");
        run(&["component", "--sink", sink, "-o", path]).assert_ok();
        file
    })
}

/// The same for WASI 0.3, with one of the sinks that are made for it.
pub fn composed_for_wasi_0_3(sink: &str) -> &'static Path {
    static FILES: [OnceLock<PathBuf>; SINKS.len()] = [const { OnceLock::new() }; SINKS.len()];
    let index = SINKS.iter().position(|name| *name == sink);
    FILES[index.expect("is a sink")].get_or_init(|| {
        let file = scratch().join(format!("{sink}-wasi-0.3.wasm"));
        let path = file.to_str().expect("is text");
        run(&["component", "--wasi", "0.3", "--sink", sink, "-o", path]).assert_ok();
        file
    })
}

impl Peer {
    /// A server whose component is composed with this sink.
    pub fn composed_with(sink: &str) -> PeerBuilder {
        let file = composed(sink).to_str().expect("is text");
        Self::builder().arguments(&["--component", file])
    }
}

impl PeerBuilder {
    /// Adds a variable to the environment of the component: NAME=VALUE.
    pub fn env(self, variable: &str) -> Self {
        self.arguments(&["--env", variable])
    }
}
