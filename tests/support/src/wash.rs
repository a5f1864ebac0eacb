//! `wash dev`, the host of wasmCloud for development, as a platform for composed components. `make wash` installs
//! it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::lines::Lines;
use super::process::target;
use super::{Connection, can_make};

/// The configuration that is part of this repository.
const CONFIG: &str = include_str!("../../../deploy/wasmcloud/.wash/config.yaml");

/// The address in it.
const ADDRESS: &str = "127.0.0.1:8080";

/// The directory of events in it, as the host sees it.
const EVENTS: &str = "./events";

/// The variable in it.
const VARIABLE: &str = "ALLDATA_PEER_DIRECTORY: /events";

/// A component that `wash dev` runs; it ends when this is dropped.
pub struct Wash {
    child: Child,
    address: SocketAddr,
    log: Lines,
    /// The project, which is also the home directory.
    _project: TempDir,
}

impl Wash {
    /// Whether it is installed; if not, the test is skipped.
    #[track_caller]
    pub fn can_start() -> bool {
        let is_missing = !program().is_file();
        let reason = "it is not installed: make wash";
        can_make("wash", is_missing.then_some(reason))
    }

    /// Runs a component with the configuration of this repository, whose events go to this directory.
    pub fn with_directory(component: &Path, events: &Path) -> Self {
        let events = events.to_str().expect("is text");
        Self::start(component, &CONFIG.replace(EVENTS, events))
    }

    /// The same with another variable, and with the directory of the project.
    pub fn with_variable(component: &Path, name: &str, value: &str) -> Self {
        let variable = format!("{name}: \"{value}\"");
        Self::start(component, &CONFIG.replace(VARIABLE, &variable))
    }

    fn start(component: &Path, config: &str) -> Self {
        let project = tempfile::tempdir().expect("makes a directory");
        let path = |file: &str| project.path().join(file);
        for directory in [".wash", "events"] {
            fs::create_dir(path(directory)).expect("makes a directory");
        }
        assert!(config.contains(ADDRESS), "it has an address");
        let config = config.replace(ADDRESS, "127.0.0.1:0");
        fs::write(path(".wash/config.yaml"), config).expect("writes");
        fs::copy(component, path("peer.wasm")).expect("copies");
        let mut child = Command::new(program())
            .arg("-C")
            .arg(project.path())
            .args(["dev", "--non-interactive"])
            .env("HOME", project.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let log = Lines::of(child.stderr.take().expect("is piped"));
        let mut this = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            log,
            _project: project,
        };
        let line = this.log_line("HTTP server listening");
        let address = line.split("addr=").nth(1);
        let address = address.and_then(|rest| rest.split(' ').next()?.parse().ok());
        this.address = address.unwrap_or_else(|| panic!("not an address: {line:?}"));
        // Until then it answers 404.
        this.log_line("listening for HTTP requests");
        this
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// Waits for a line of the log that contains `text`.
    pub fn log_line(&self, text: &str) -> String {
        self.log.with(text)
    }
}

fn program() -> PathBuf {
    target().join("tools/wash/wash_cli/wash")
}

impl Drop for Wash {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
