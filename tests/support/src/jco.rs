//! Components on Node.js: `jco serve` runs them, `jco componentize` makes them of JavaScript.
//!
//! jco is installed from the lock file into the target directory, once for all test runs.

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

/// The installed packages: jco, and those that it loads at run time.
const FILES: [(&str, &str); 4] = [
    ("package.json", include_str!("../../jco/package.json")),
    (
        "package-lock.json",
        include_str!("../../jco/package-lock.json"),
    ),
    (".npmrc", include_str!("../../jco/.npmrc")),
    ("setup.mjs", include_str!("../../jco/setup.mjs")),
];

/// The time for npm, which downloads 340 MB, and for jco, which compiles for up to a minute on a busy machine.
const PREPARATION_DEADLINE: Duration = Duration::from_secs(600);

/// A component that `jco serve` runs; it ends when this is dropped.
pub struct Jco {
    child: Child,
    address: SocketAddr,
    log: Lines,
    /// The directory for the files of jco. It is removed here, since jco is killed.
    _temporary: TempDir,
}

impl Jco {
    /// The name of the directory as the component sees it.
    pub const DIRECTORY: &str = "/events";

    /// Serves a component on a free port, with these variables and optionally a directory.
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
            // The server is a child process of jco's, and outlives it.
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

    /// Waits for a line on standard error that contains `text`.
    pub fn log_line(&self, text: &str) -> String {
        self.log.with(text)
    }
}

impl Drop for Jco {
    fn drop(&mut self) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // It may have ended already.
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

/// The directory that jco is installed in, by the first test that needs it.
pub(super) fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| npm::install("jco", &FILES))
}

/// Runs a program to its end, and asserts that it succeeds.
#[track_caller]
fn run(command: &mut Command) {
    let output = finish(command, "", PREPARATION_DEADLINE);
    assert_eq!(output.code, Some(0), "{command:?}: {output:?}");
}
