//! `wasmtime serve`, built from its own crate, as a platform for composed components.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use super::Connection;
use super::lines::Lines;
use super::process::target;

/// A component that `wasmtime serve` runs; it ends when this is dropped.
pub(crate) struct WasmtimeServe {
    child: Child,
    address: SocketAddr,
    log: Lines,
}

impl WasmtimeServe {
    /// Serves a component as a person would, with variables and maybe a directory for it.
    pub(crate) fn start(
        component: &Path,
        variables: &[(&str, &str)],
        directory: Option<(&Path, &str)>,
    ) -> Self {
        let mut command = Command::new(program());
        // It keeps compiled components too, and not in a directory of the user.
        command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
        command.args(["-S", "cli", "--addr", "127.0.0.1:0"]);
        for (name, value) in variables {
            command.args(["--env", &format!("{name}={value}")]);
        }
        if let Some((path, name)) = directory {
            command.args(["--dir", &format!("{}::{name}", path.display())]);
        }
        let mut child = command
            .arg(component)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let log = Lines::of(child.stderr.take().expect("is piped"));
        let mut server = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            log,
        };
        let line = server.log_line("Serving HTTP on ");
        let address = line.split("http://").nth(1);
        let address = address.and_then(|address| address.trim_end_matches('/').parse().ok());
        server.address = address.unwrap_or_else(|| panic!("not an address: {line:?}"));
        server
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// Waits for a line on standard error that has `text` in it.
    pub(crate) fn log_line(&self, text: &str) -> String {
        self.log.with(text)
    }
}

impl Drop for WasmtimeServe {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, built by the first test that asks for it. It is a workspace of its own, so this
/// changes nothing of what the host is built with; its directory is kept for the next run.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let manifest =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/wasmtime-serve/Cargo.toml");
        let target = target().join("wasmtime-serve");
        let mut cargo = Command::new(env!("CARGO"));
        for (name, _) in std::env::vars_os() {
            if is_of_this_test(&name.to_string_lossy()) {
                cargo.env_remove(name);
            }
        }
        let status = cargo
            .args(["build", "--locked", "--manifest-path"])
            .arg(manifest)
            .arg("--target-dir")
            .arg(&target)
            .status()
            .expect("cargo runs");
        assert!(status.success(), "wasmtime serve can't be built");
        target.join("debug/wasmtime-serve")
    })
}

/// Whether cargo set a variable for this test. Build scripts that look at those of their own would
/// see them change, and build again.
fn is_of_this_test(variable: &str) -> bool {
    let prefixes = ["CARGO_BIN_EXE_", "CARGO_MANIFEST_", "CARGO_PKG_"];
    variable == "OUT_DIR" || prefixes.iter().any(|prefix| variable.starts_with(prefix))
}
