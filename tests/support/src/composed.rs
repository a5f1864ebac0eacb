//! Components that the program under test composed, each of them once.
//!
//! Never says what a sink is given beside its variables.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::process::scratch;
use super::{Peer, PeerBuilder, run};

/// The sinks that the program has.
pub const SINKS: [&str; 4] = [
    "forward",
    "directory",
    "keyvalue-spin",
    "keyvalue-wasmcloud",
];

/// The file of the component that is composed with this sink of the program.
pub fn composed(sink: &str) -> &'static Path {
    static FILES: [OnceLock<PathBuf>; SINKS.len()] = [const { OnceLock::new() }; SINKS.len()];
    let index = SINKS.iter().position(|name| *name == sink);
    FILES[index.expect("is a sink")].get_or_init(|| {
        // The next run replaces it, which the program does at once.
        let file = scratch().join(format!("{sink}.wasm"));
        let path = file.to_str().expect("is text");
        run(&["component", "--sink", sink, "-o", path]).assert_ok();
        file
    })
}

impl Peer {
    /// A server whose component is composed with this sink of the program.
    pub fn composed_with(sink: &str) -> PeerBuilder {
        let file = composed(sink).to_str().expect("is text");
        Self::builder().arguments(&["--component", file])
    }
}

impl PeerBuilder {
    /// Adds to what the component finds in its environment: NAME=VALUE.
    pub fn env(self, variable: &str) -> Self {
        self.arguments(&["--env", variable])
    }
}
