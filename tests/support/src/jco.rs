//! Components on Node.js: `jco serve` runs them, `jco componentize` makes them of JavaScript.
//!
//! jco is installed from the lock file into the target directory, once for all test runs.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::DEADLINE;
use super::host_process::{AddressLine, HostProcess};
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

/// It writes `Bound ADDRESS`.
const ADDRESS: AddressLine = AddressLine {
    text: "Bound ",
    before: "Bound ",
    deadline: DEADLINE,
};

/// `jco serve`.
pub enum Jco {}

impl Jco {
    /// The name of the directory as the component sees it.
    pub const DIRECTORY: &str = "/events";

    /// Serves a component on a free port, with these variables and optionally a directory.
    #[must_use]
    pub fn serve(
        component: &Path,
        variables: &[(&str, &str)],
        directory: Option<&Path>,
    ) -> HostProcess {
        let temporary = tempfile::tempdir().expect("makes a directory");
        let mut command = jco();
        command.arg("serve").arg(component);
        command.args(["--host", "127.0.0.1", "--port", "0", "--jco-import"]);
        command.arg(installed().join("setup.mjs"));
        command.env_remove("JCO_TEST_DIRECTORY");
        command.envs(directory.map(|path| ("JCO_TEST_DIRECTORY", path)));
        command.envs(variables.iter().copied());
        command.env("TMPDIR", temporary.path());
        command.current_dir(temporary.path());
        // The server is a child process of jco's, and outlives it.
        command.process_group(0);
        HostProcess::start(&mut command, Some(temporary), &ADDRESS)
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
