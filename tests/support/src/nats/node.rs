//! A nats-server with JetStream, what it reports, and where its program is.

use std::env;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// The environment variable with the path of a nats-server instead of the pinned one.
const PROGRAM: &str = "FAULTS_NATS_SERVER";

/// The path of the pinned nats-server, below the target directory.
const PINNED: &str = "tools/nats/bin/nats-server";

/// The time-out of a request to the monitoring port.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// A server, which is killed when it is dropped.
pub(super) struct Node {
    /// The command that starts a program in which the store of the server is visible.
    pub(super) launcher: Vec<String>,
    pub(super) configuration: PathBuf,
    pub(super) store: PathBuf,
    pub(super) client_port: u16,
    pub(super) monitor_port: u16,
    /// `None` while it does not run.
    pub(super) child: Option<Child>,
}

/// Whether servers are of the pinned version, and none is set by the environment.
pub fn is_pinned() -> bool {
    named().is_none()
}

/// Why there are no nats-servers on this machine.
pub fn no_nats_server() -> Option<&'static str> {
    program()
        .is_none()
        .then_some("there is no nats-server: make nats-server")
}

impl Node {
    pub(super) fn start(&mut self) {
        let program = program().expect("there is one");
        let mut command = match self.launcher.split_first() {
            Some((launcher, words)) => {
                let mut command = Command::new(launcher);
                command.args(words).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.arg("-c").arg(&self.configuration);
        command.arg("-js").arg("-sd").arg(&self.store);
        // Its output would be mixed with that of the tests.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn();
        self.child = Some(child.expect("starts"));
    }

    pub(super) fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(super) fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// Whether JetStream is there. Its streams may not be yet.
    pub(super) fn is_ready(&self) -> bool {
        let answer = self.ask("/healthz?js-enabled=true");
        answer.is_ok_and(|answer| answer.starts_with("HTTP/1.0 200"))
    }

    /// The name of the leader of a stream, as far as this server knows.
    pub(super) fn leader(&self, stream: &str) -> Option<String> {
        let leader = &self.stream(stream)?["cluster"]["leader"];
        leader.as_str().map(str::to_owned)
    }

    /// The sequence number of the last message that this server has of a stream.
    pub(super) fn last_sequence(&self, stream: &str) -> Option<u64> {
        self.stream(stream)?["state"]["last_seq"].as_u64()
    }

    /// What this server reports of a stream.
    fn stream(&self, stream: &str) -> Option<Value> {
        let answer = self.ask("/jsz?streams=1").ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let report: Value = serde_json::from_str(body).ok()?;
        let accounts = report["account_details"].as_array()?.iter();
        let mut streams = accounts.filter_map(|account| account["stream_detail"].as_array());
        streams.find_map(|streams| streams.iter().find(|it| it["name"] == stream).cloned())
    }

    pub(super) fn ask(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(local(self.monitor_port))?;
        stream.set_read_timeout(Some(ASK_TIMEOUT))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

/// The server that [`PROGRAM`] names, or the pinned one, which `make nats-server` installs into the target
/// directory. Never one of the system, since that may be a version that loses events.
fn program() -> Option<PathBuf> {
    if let Some(named) = named() {
        return Some(named);
    }
    let this = env::current_exe().ok()?;
    let mut files = this.ancestors().map(|directory| directory.join(PINNED));
    files.find(|file| file.is_file())
}

fn named() -> Option<PathBuf> {
    let named = env::var_os(PROGRAM).filter(|named| !named.is_empty());
    named.map(PathBuf::from)
}

pub(super) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
