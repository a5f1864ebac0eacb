//! The real program as a server, started once for each process; it ends with that process.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

/// The variable that names the file of the program.
pub const PROGRAM: &str = "ALLDATA_PEER_FUZZ_PROGRAM";

/// The output of the program before its address, once it listens.
const LISTENING: &str = "listening on http://";

/// A running program and its address.
#[derive(Debug)]
pub struct Program {
    child: Child,
    address: SocketAddr,
    /// Kept open, so that the program can write to it.
    _stdout: BufReader<ChildStdout>,
}

impl Program {
    /// Starts the program. The kernel kills it when this process ends in any way: a fuzzer with a finding runs
    /// no destructors.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn start() -> Self {
        let program = env::var_os(PROGRAM);
        let program = program.unwrap_or_else(|| panic!("{PROGRAM} does not name the program"));
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(["serve", "--hostname", "127.0.0.1", "--port", "0"])
            .args(["--sink", "memory:"])
            .env_remove(PROGRAM)
            // Refused requests are not logged.
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv, of util-linux, starts");
        let stdout = child.stdout.take().expect("is piped");
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line).expect("is text");
        let address = line.trim_end().strip_prefix(LISTENING);
        let address = address.and_then(|address| address.parse().ok());
        Self {
            address: address.unwrap_or_else(|| panic!("the program does not listen: {line:?}")),
            child,
            _stdout: stdout,
        }
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asserts that the program still runs.
    ///
    /// # Panics
    ///
    /// If it has ended.
    pub fn assert_runs(&mut self) {
        let ended = self.child.try_wait().expect("a child can be asked for");
        assert_eq!(ended, None, "the program has ended");
    }
}
