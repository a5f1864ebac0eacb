//! `wasmtime serve` as a platform for composed components: two versions, which `make wasmtime` installs. A
//! wasmtime of the system is never used.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::lines::Lines;
use super::process::{scratch, target};
use super::{Connection, DEADLINE, can_make};

/// A version of wasmtime that is pinned in `tests/wasmtime`.
#[derive(Clone, Copy)]
pub enum Wasmtime {
    V48,
    V49,
}

impl Wasmtime {
    /// Whether it is installed; if not, the test is skipped.
    #[track_caller]
    pub fn can_start(self) -> bool {
        let is_missing = !self.program().is_file();
        let reason = "it is not installed: make wasmtime";
        can_make(&self.name(), is_missing.then_some(reason))
    }

    fn name(self) -> String {
        let major = match self {
            Self::V48 => 48,
            Self::V49 => 49,
        };
        format!("wasmtime-{major}")
    }

    fn program(self) -> PathBuf {
        let directory = target().join("tools").join(self.name());
        directory.join("wasmtime_cli/wasmtime")
    }
}

/// A component that `wasmtime serve` runs; it ends when this is dropped.
pub struct WasmtimeServe {
    child: Child,
    address: SocketAddr,
    log: Lines,
}

impl WasmtimeServe {
    /// Serves a component as a user would, with variables and optionally a directory.
    pub fn start(
        version: Wasmtime,
        component: &Path,
        variables: &[(&str, &str)],
        directory: Option<(&Path, &str)>,
    ) -> Self {
        Self::start_within(DEADLINE, version, component, variables, directory)
    }

    /// The same for a large component, which may take until `deadline` to compile.
    pub fn start_within(
        deadline: Duration,
        version: Wasmtime,
        component: &Path,
        variables: &[(&str, &str)],
        directory: Option<(&Path, &str)>,
    ) -> Self {
        let mut command = Command::new(version.program());
        // Its compile cache is by default in a directory of the user.
        command.env("XDG_CACHE_HOME", scratch());
        command.args(["serve", "-S", "cli", "--addr", "127.0.0.1:0"]);
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
        let line = server.log.with_within(deadline, "Serving HTTP on ");
        let address = line.split("http://").nth(1);
        let address = address.and_then(|address| address.trim_end_matches('/').parse().ok());
        server.address = address.unwrap_or_else(|| panic!("not an address: {line:?}"));
        server
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// Waits for a line on standard error that contains `text`.
    pub fn log_line(&self, text: &str) -> String {
        self.log.with(text)
    }
}

impl Drop for WasmtimeServe {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
