//! The process of another host that serves a component, whose address is in its log.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group};
use tempfile::TempDir;

use super::Connection;
use super::lines::Lines;

/// Its process is killed when this is dropped. If the test has failed, the rest of its log is printed then.
pub struct HostProcess {
    child: Child,
    address: SocketAddr,
    log: Lines,
    /// The directory for its files, which it can't remove itself when it is killed.
    _directory: Option<TempDir>,
}

/// The line of the log that has the address.
pub(super) struct AddressLine {
    /// A part of the line.
    pub text: &'static str,
    /// What is right before the address. Behind it is a space, a slash or the end of the line.
    pub before: &'static str,
    /// How long each line of the log may take until then.
    pub deadline: Duration,
}

impl HostProcess {
    /// Starts a host, and waits for the line with its address.
    pub(super) fn start(
        command: &mut Command,
        directory: Option<TempDir>,
        line: &AddressLine,
    ) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("starts");
        let log = Lines::of(child.stderr.take().expect("is piped"));
        let mut host = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            log,
            _directory: directory,
        };
        let found = host.log.with_within(line.deadline, line.text);
        let address = found.split(line.before).nth(1);
        let address = address.and_then(|rest| rest.split([' ', '/']).next()?.parse().ok());
        host.address = address.unwrap_or_else(|| panic!("not an address: {found:?}"));
        host
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// Waits for a line of the log that contains `text`.
    pub fn log_line(&self, text: &str) -> String {
        self.log.with(text)
    }

    /// Kills it with its children, where it has a process group of its own.
    fn kill(&mut self) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let id = id.expect("is a process");
        // It may have ended already.
        let _ = match getpgid(Some(id)) {
            Ok(group) if group == id => kill_process_group(id, Signal::KILL),
            _ => kill_process(id, Signal::KILL),
        };
        let _ = self.child.wait();
    }
}

impl Drop for HostProcess {
    #[expect(clippy::print_stderr, reason = "shown with the failure of the test")]
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("the log of the host:\n{}", self.log.unread().join("\n"));
        }
    }
}
