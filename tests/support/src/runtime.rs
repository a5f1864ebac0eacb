//! The runtimes of JavaScript that npm has as packages, of the versions in the lock file of `tests/runtimes`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::npm;
use super::process::target;

const FILES: [(&str, &str); 3] = [
    ("package.json", include_str!("../../runtimes/package.json")),
    (
        "package-lock.json",
        include_str!("../../runtimes/package-lock.json"),
    ),
    (".npmrc", include_str!("../../runtimes/.npmrc")),
];

/// A runtime other than the Node.js of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    Deno,
    Bun,
    /// The newest Node.js, which has `node:sqlite`.
    Node,
    Workerd,
}

impl Runtime {
    /// Why it can't be run here, if it can't.
    #[must_use]
    pub fn missing(self) -> Option<&'static str> {
        let is_there = self.program().is_some();
        (!is_there).then_some("npm has no program of it for this system")
    }

    /// The directory that the packages of the lock file are installed in.
    #[must_use]
    pub fn packages() -> &'static Path {
        installed()
    }

    /// The program, in the package that npm has chosen for this system.
    pub(super) fn program(self) -> Option<PathBuf> {
        let (scope, prefix, program) = match self {
            Self::Deno => ("@deno", "", "deno"),
            Self::Bun => ("@oven", "", "bin/bun"),
            Self::Node => ("", "node-linux-", "bin/node"),
            Self::Workerd => ("@cloudflare", "workerd-", "bin/workerd"),
        };
        let packages = installed().join("node_modules").join(scope);
        let packages = fs::read_dir(packages).ok()?.filter_map(Result::ok);
        let packages =
            packages.filter(|package| package.file_name().to_string_lossy().starts_with(prefix));
        let mut programs = packages.map(|package| package.path().join(program));
        programs.find(|program| {
            let mut command = Command::new(program);
            let version = command.arg("--version").stdout(Stdio::null());
            version.status().is_ok_and(|status| status.success())
        })
    }

    /// The command that runs a module.
    pub(super) fn command(self, file: &Path) -> Command {
        let mut command = Command::new(self.program().expect("is there"));
        if self == Self::Deno {
            command.args(["run", "--no-prompt", "--unstable-kv"]);
            command.args(["--allow-read", "--allow-write"]);
            command.args(["--allow-net=127.0.0.1", "--node-modules-dir=manual"]);
            command.env("DENO_DIR", target().join("runtimes/deno-cache"));
            command.env("DENO_NO_UPDATE_CHECK", "1");
        }
        command.arg(file);
        command
    }
}

/// The directory that they are installed in, by the first test that needs one.
pub(super) fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| npm::install("runtimes", &FILES))
}
