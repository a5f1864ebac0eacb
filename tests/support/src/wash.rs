//! `wash dev`, the host of wasmCloud for development, as a platform for composed components. `make wash` installs
//! it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::host_process::{AddressLine, HostProcess};
use super::process::target;
use super::{DEADLINE, can_make};

/// The configuration that is part of this repository.
const CONFIG: &str = include_str!("../../../deploy/wasmcloud/.wash/config.yaml");

/// The address in it.
const ADDRESS: &str = "127.0.0.1:8080";

/// The directory of events in it, as the host sees it.
const EVENTS: &str = "./events";

/// The variable in it.
const VARIABLE: &str = "ALLDATA_PEER_DIRECTORY: /events";

/// It writes `HTTP server listening addr=ADDRESS`, and more behind that.
const ADDRESS_LINE: AddressLine = AddressLine {
    text: "HTTP server listening",
    before: "addr=",
    deadline: DEADLINE,
};

/// `wash dev`.
pub enum Wash {}

impl Wash {
    /// Whether it is installed; if not, the test is skipped.
    #[track_caller]
    #[must_use]
    pub fn can_start() -> bool {
        let is_missing = !program().is_file();
        let reason = "it is not installed: make wash";
        can_make("wash", is_missing.then_some(reason))
    }

    /// Runs a component with the configuration of this repository, whose events go to this directory.
    #[must_use]
    pub fn with_directory(component: &Path, events: &Path) -> HostProcess {
        let events = events.to_str().expect("is text");
        start(component, &CONFIG.replace(EVENTS, events))
    }

    /// The same with another variable, and with the directory of the project.
    #[must_use]
    pub fn with_variable(component: &Path, name: &str, value: &str) -> HostProcess {
        let variable = format!("{name}: \"{value}\"");
        start(component, &CONFIG.replace(VARIABLE, &variable))
    }
}

/// Runs a component in a project of its own, which is also the home directory.
fn start(component: &Path, config: &str) -> HostProcess {
    let project = tempfile::tempdir().expect("makes a directory");
    let path = |file: &str| project.path().join(file);
    for directory in [".wash", "events"] {
        fs::create_dir(path(directory)).expect("makes a directory");
    }
    assert!(config.contains(ADDRESS), "it has an address");
    let config = config.replace(ADDRESS, "127.0.0.1:0");
    fs::write(path(".wash/config.yaml"), config).expect("writes");
    fs::copy(component, path("peer.wasm")).expect("copies");
    let mut command = Command::new(program());
    command.arg("-C").arg(project.path());
    command.args(["dev", "--non-interactive"]);
    command.env("HOME", project.path());
    let host = HostProcess::start(&mut command, Some(project), &ADDRESS_LINE);
    // Until then it answers 404.
    host.log_line("listening for HTTP requests");
    host
}

fn program() -> PathBuf {
    target().join("tools/wash/wash_cli/wash")
}
