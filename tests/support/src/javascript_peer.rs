//! Scripts that use the npm package, on Node.js and other runtimes.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::Connection;
use super::lines::Lines;
use super::npm_package::installed;
use super::process::kill;
use super::runtime::Runtime;

/// A script that uses the package. Its process is killed when this is dropped.
pub struct JavaScriptPeer {
    child: Child,
    output: Lines,
    log: Lines,
}

impl JavaScriptPeer {
    /// Runs a script, a module of Node's kind `module` or `commonjs`.
    pub fn run(kind: &str, script: &str) -> Self {
        let mut node = Command::new("node");
        node.arg(format!("--input-type={kind}"));
        node.args(["--eval", script]);
        Self::start(&mut node)
    }

    /// Runs a script after `first`, which is a module.
    pub fn run_after(first: &str, kind: &str, script: &str) -> Self {
        let first: String = first.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut node = Command::new("node");
        node.arg(format!("--import=data:text/javascript,{first}"));
        node.arg(format!("--input-type={kind}"));
        Self::start(node.args(["--eval", script]))
    }

    /// Runs a module with arguments. `name` is that of its file, for no other module.
    pub fn run_with(name: &str, script: &str, arguments: &[&str]) -> Self {
        let mut node = Command::new("node");
        Self::start(node.arg(Self::write(name, script)).args(arguments))
    }

    /// The same on another runtime.
    pub fn run_on(runtime: Runtime, name: &str, script: &str, arguments: &[&str]) -> Self {
        let file = Self::write(name, script);
        Self::start(runtime.command(&file).args(arguments))
    }

    fn write(name: &str, script: &str) -> PathBuf {
        let file = installed().join(name);
        // Another script of this name may be starting.
        if fs::read_to_string(&file).ok().as_deref() != Some(script) {
            fs::write(&file, script).expect("is written");
        }
        file
    }

    pub(super) fn start(command: &mut Command) -> Self {
        let command = command.current_dir(installed()).stdin(Stdio::null());
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let output = Lines::of(child.stdout.take().expect("is piped"));
        let log = Lines::of(child.stderr.take().expect("is piped"));
        Self { child, output, log }
    }

    /// The address in the next line of the output that is `NAME on ADDRESS`.
    pub fn address(&self, name: &str) -> SocketAddr {
        let name = format!("{name} on ");
        let line = self.output_line(&name);
        let address = line.strip_prefix(&name).map(str::parse);
        match address {
            Some(Ok(address)) => address,
            _ => panic!("no address: {line:?}"),
        }
    }

    /// Connects to the address of `listening on ADDRESS`, the next line of the output that is one.
    pub fn connect(&self) -> Connection {
        Connection::open(self.address("listening"))
    }

    /// Waits for a line on standard output that contains `text`.
    pub fn output_line(&self, text: &str) -> String {
        self.output.with(text)
    }

    /// Waits for a line on standard error that contains `text`.
    pub fn log_line(&self, text: &str) -> String {
        self.log.with(text)
    }

    /// The identifier of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        kill(self.child.id(), signal);
    }

    /// Kills the process by SIGKILL, and returns when it has ended.
    ///
    /// # Panics
    ///
    /// If it has ended by itself.
    pub fn kill(&mut self) {
        let ended = self.child.try_wait().expect("is waited for");
        assert_eq!(ended, None, "it ended before the kill");
        self.child.kill().expect("is sent");
        self.child.wait().expect("is waited for");
    }
}

impl Drop for JavaScriptPeer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
