//! `wasmtime serve` as a platform for composed components: two versions, which `make wasmtime` installs. A
//! wasmtime of the system is never used.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::host_process::{AddressLine, HostProcess};
use super::process::{scratch, target};
use super::{DEADLINE, can_make};

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

    /// Serves a component as a user would, with variables and optionally a directory.
    #[must_use]
    pub fn serve(
        self,
        component: &Path,
        variables: &[(&str, &str)],
        directory: Option<(&Path, &str)>,
    ) -> HostProcess {
        self.serve_within(DEADLINE, component, variables, directory)
    }

    /// The same for a large component, which may take until `deadline` to compile.
    #[must_use]
    pub fn serve_within(
        self,
        deadline: Duration,
        component: &Path,
        variables: &[(&str, &str)],
        directory: Option<(&Path, &str)>,
    ) -> HostProcess {
        let mut command = Command::new(self.program());
        // Its compile cache is by default in a directory of the user.
        command.env("XDG_CACHE_HOME", scratch());
        command.args(["serve", "-S", "cli", "--addr", "127.0.0.1:0"]);
        for (name, value) in variables {
            command.args(["--env", &format!("{name}={value}")]);
        }
        if let Some((path, name)) = directory {
            command.args(["--dir", &format!("{}::{name}", path.display())]);
        }
        let address = AddressLine {
            text: "Serving HTTP on ",
            before: "http://",
            deadline,
        };
        HostProcess::start(command.arg(component), None, &address)
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
