//! Components on Node: `jco serve` runs them, `jco componentize` makes them of JavaScript.
//!
//! What jco consists of is installed below the target directory, once for all runs of the tests.
//! Never into the tree, and never anything but what the lock file names.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use super::Connection;
use super::lines::Lines;
use super::npm;
use super::process::finish;

/// What is installed, and what jco loads beside it.
const FILES: [(&str, &str); 4] = [
    ("package.json", include_str!("../../jco/package.json")),
    (
        "package-lock.json",
        include_str!("../../jco/package-lock.json"),
    ),
    (".npmrc", include_str!("../../jco/.npmrc")),
    ("setup.mjs", include_str!("../../jco/setup.mjs")),
];

/// How long npm may take, which fetches 340 MB, and jco, which compiles for as long as a minute on
/// a busy machine.
const PREPARATION_DEADLINE: Duration = Duration::from_secs(600);

/// A component that `jco serve` runs; it ends when this is dropped.
pub struct Jco {
    child: Child,
    address: SocketAddr,
    log: Lines,
    /// Where jco puts what it makes of the component. It is not asked to clean up: killed, it can't.
    _temporary: TempDir,
}

impl Jco {
    /// The name that a component knows its directory by.
    pub const DIRECTORY: &str = "/events";

    /// Serves a component on a free port, with these variables and maybe a directory for it.
    pub fn serve(component: &Path, environment: &[(&str, &str)], directory: Option<&Path>) -> Self {
        let temporary = tempfile::tempdir().expect("makes a directory");
        let mut command = jco();
        command.arg("serve").arg(component);
        command.args(["--host", "127.0.0.1", "--port", "0", "--jco-import"]);
        command.arg(installed().join("setup.mjs"));
        command.env_remove("JCO_TEST_DIRECTORY");
        command.envs(directory.map(|path| ("JCO_TEST_DIRECTORY", path)));
        command.envs(environment.iter().copied());
        let mut child = command
            .env("TMPDIR", temporary.path())
            .current_dir(temporary.path())
            // The server is a child of jco's own, and outlives it.
            .process_group(0)
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
            _temporary: temporary,
        };
        let line = server.log_line("Bound ");
        let address = line.split(' ').nth(1).map(str::parse);
        server.address = match address {
            Some(Ok(address)) => address,
            _ => panic!("not an address: {line:?}"),
        };
        server
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// Waits for a line on standard error that has `text` in it.
    pub fn log_line(&self, text: &str) -> String {
        self.log.with(text)
    }
}

impl Drop for Jco {
    fn drop(&mut self) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // It may have ended by itself.
        let _ = kill_process_group(id.expect("is a process"), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Makes a sink component of JavaScript, with the interface in the file `wit`.
pub fn componentize(script: &Path, wit: &Path, component: &Path) {
    let mut command = jco();
    command.arg("componentize").arg(script);
    command.arg("--wit").arg(wit);
    command.args(["--world-name", "sink"]);
    command.args(["--disable", "random", "stdio", "fetch-event", "-o"]);
    run(command.arg(component));
}

fn jco() -> Command {
    let mut command = Command::new("node");
    command.arg(installed().join("node_modules/@bytecodealliance/jco/dist/jco.js"));
    command
}

/// The directory that jco is installed in, by the first test that asks for it.
fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| npm::install("jco", &FILES))
}

/// Runs a program to its end, where it has to succeed.
#[track_caller]
fn run(command: &mut Command) {
    let output = finish(command, "", PREPARATION_DEADLINE);
    assert_eq!(output.code, Some(0), "{command:?}: {output:?}");
}
