//! A server that runs: its first line of output, and its processes.

use std::env;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::Client;
use crate::interface::Interface;
use crate::key_value::Program;
use crate::process::{self, Memory};
use crate::tools::Tools;

/// The time-out for a server to start.
const DEADLINE: Duration = Duration::from_secs(30);

/// The time-out for a server to end: the default drain time-out of `alldata-peer`, and some time to close its
/// store.
const END_DEADLINE: Duration = Duration::from_secs(60);

/// The interval at which the start of a key-value store, and the end of a server, are checked.
const TICK: Duration = Duration::from_millis(10);

/// The event of single puts.
const EVENT: &str = r#"{"customer":1}"#;

/// The scheme of a server's URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// A server that listens. It is killed when this is dropped, and its store is removed with the last reference
/// to it.
pub(crate) struct Running {
    /// The server, and what else is needed for its interface.
    processes: Vec<Child>,
    started: Instant,
    address: SocketAddr,
    scheme: Scheme,
    interface: Interface,
    lines: Receiver<String>,
    store: Arc<TempDir>,
}

impl Running {
    pub(crate) fn start(command: Command, store: Arc<TempDir>, cache: &Path) -> Result<Self> {
        let (mut running, output) = Self::new(Interface::Peer, store);
        // The lines end with the process, also before it says where it listens.
        running.spawn(command, cache, output)?;
        (running.scheme, running.address) = running.announced()?;
        Ok(running)
    }

    /// Starts the programs of a key-value store, each when the one before it listens. The last one takes puts, of which one is
    /// stored then.
    pub(crate) fn start_key_value(
        programs: impl IntoIterator<Item = Program>,
        interface: Interface,
        store: Arc<TempDir>,
        cache: &Path,
    ) -> Result<Self> {
        let (mut running, output) = Self::new(interface, store);
        for Program { command, address } in programs {
            running.spawn(command, cache, output.clone())?;
            running.address = address;
            while let Err(error) = TcpStream::connect(address) {
                running.check()?;
                ensure!(running.age() < DEADLINE, "it does not listen: {error}");
                thread::sleep(TICK);
            }
        }
        while let Err(error) = running.put_over_http("start") {
            running.check()?;
            ensure!(running.age() < DEADLINE, "it takes no put: {error:#}");
            thread::sleep(TICK);
        }
        Ok(running)
    }

    /// A server without processes yet, and where the lines of their output go.
    fn new(interface: Interface, store: Arc<TempDir>) -> (Self, Sender<String>) {
        let (output, lines) = mpsc::channel();
        let this = Self {
            processes: Vec::new(),
            started: Instant::now(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            scheme: Scheme::Http,
            interface,
            lines,
            store,
        };
        (this, output)
    }

    fn spawn(&mut self, mut command: Command, cache: &Path, output: Sender<String>) -> Result<()> {
        for (name, _) in env::vars_os() {
            if changes_figures(&name.to_string_lossy()) {
                command.env_remove(name);
            }
        }
        command.env("XDG_CACHE_HOME", cache);
        // The shared directory for caches: no other user may write to it.
        command.env("ALLDATA_PEER_COMPILE_CACHE", cache.join("alldata-peer"));
        // The address may be on either stream.
        let (reader, writer) = io::pipe()?;
        command
            .stdin(Stdio::piped())
            .stdout(writer.try_clone()?)
            .stderr(writer);
        self.processes.push(command.spawn()?);
        // The pipe ends with the server only if no other process can write to it.
        drop(command);
        thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                // Read to the end in any case, so that the server never blocks.
                let _ = output.send(line);
            }
        });
        Ok(())
    }

    /// Waits for the line with its address.
    fn announced(&self) -> Result<(Scheme, SocketAddr)> {
        let mut others = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(DEADLINE) {
            if let Some(announced) = parse_address(&line) {
                return Ok(announced);
            }
            others.push(line);
        }
        bail!("it does not say where it listens: {}", others.join("\n"))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn interface(&self) -> Interface {
        self.interface
    }

    /// The URL that takes puts.
    pub(crate) fn url(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        format!("{scheme}://{}{}", self.address, self.interface.path())
    }

    /// The time since its start.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Its processor time so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let processes = self.processes.iter();
        processes.map(|it| process::cpu_seconds(it.id())).sum()
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        let processes = self.processes.iter();
        processes.map(|it| process::memory(it.id())).sum()
    }

    /// The number of open file descriptors of the server itself.
    pub(crate) fn open_files(&self) -> Result<u64> {
        process::open_files(self.server()?.id())
    }

    /// The number of threads of the server itself.
    pub(crate) fn threads(&self) -> Result<u64> {
        process::threads(self.server()?.id())
    }

    fn server(&self) -> Result<&Child> {
        self.processes.first().context("it has no process")
    }

    /// The size of all files of its store, in bytes.
    pub(crate) fn store_bytes(&self) -> Result<u64> {
        let files = self.store.path().read_dir()?;
        files.map(|file| Ok(file?.metadata()?.len())).sum()
    }

    /// Sends it a line, and returns the next line of its output.
    pub(crate) fn ask(&mut self, line: &str) -> Result<String> {
        let stdin = self.processes.first_mut().and_then(|it| it.stdin.as_mut());
        writeln!(stdin.context("its input is closed")?, "{line}")?;
        Ok(self.lines.recv_timeout(DEADLINE)?)
    }

    /// Sends one put on a new connection, which is returned: the response is yet to come.
    pub(crate) fn send(&self, key: &str) -> Result<Client> {
        let mut client = Client::connect(self.address)?;
        client.send(&self.interface.put(key, EVENT))?;
        Ok(client)
    }

    /// Puts one event, and checks that it is stored: wrk counts any 2xx as a success.
    pub(crate) fn put(&self, tools: &Tools, key: &str) -> Result<()> {
        match self.scheme {
            Scheme::Http => self.put_over_http(key),
            Scheme::Https => self.put_over_tls(tools, key),
        }
    }

    fn put_over_http(&self, key: &str) -> Result<()> {
        let mut client = Client::connect(self.address)?;
        let response = client.request(&self.interface.put(key, EVENT))?;
        ensure!(
            self.interface.is_stored(&response),
            "it answered {response:?}"
        );
        Ok(())
    }

    fn put_over_tls(&self, tools: &Tools, key: &str) -> Result<()> {
        let chain = tools.certificate.chain.display();
        let status = Command::new(&tools.peer)
            .args([
                "put",
                "--to",
                &format!("{}?ca={chain}", self.url()),
                key,
                "1",
            ])
            .status()?;
        ensure!(status.success(), "a put over TLS failed");
        Ok(())
    }

    /// Fails if one of its processes has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        for process in &mut self.processes {
            if let Some(status) = process.try_wait()? {
                let lines: Vec<String> = self.lines.try_iter().collect();
                bail!("it ended with {status}: {}", lines.join("\n"));
            }
        }
        Ok(())
    }

    /// Sends SIGTERM, and waits until it has ended.
    pub(crate) fn terminate(mut self) -> Result<ExitStatus> {
        let signalled = Instant::now();
        // The process id of one that has ended may be in use again.
        self.check()?;
        let process = self.processes.first_mut().context("it has no process")?;
        kill_process(Pid::from_child(process), Signal::TERM)?;
        loop {
            if let Some(status) = process.try_wait()? {
                return Ok(status);
            }
            ensure!(signalled.elapsed() < END_DEADLINE, "it does not end");
            thread::sleep(TICK);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // It may have ended already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Whether a variable of the environment would change the measurement.
fn changes_figures(variable: &str) -> bool {
    let others = ["NODE_OPTIONS", "RUST_LOG", "TOKIO_WORKER_THREADS"];
    let prefixes = ["ALLDATA_PEER_", "ETCD_"];
    prefixes.iter().any(|prefix| variable.starts_with(prefix)) || others.contains(&variable)
}

/// The address in a line such as `listening on http://127.0.0.1:8080`.
fn parse_address(line: &str) -> Option<(Scheme, SocketAddr)> {
    let (_, url) = line.split_once(" on ")?;
    let (scheme, address) = match url.split_once("://")? {
        ("http", address) => (Scheme::Http, address),
        ("https", address) => (Scheme::Https, address),
        _ => return None,
    };
    Some((scheme, address.trim_end_matches('/').parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{Scheme, parse_address};

    #[test]
    fn server_reports_its_address() {
        let by = |scheme| Some((scheme, ([127, 0, 0, 1], 39111).into()));
        for (line, announced) in [
            ("listening on http://127.0.0.1:39111", by(Scheme::Http)),
            ("listening on https://127.0.0.1:39111", by(Scheme::Https)),
            ("Serving HTTP on http://127.0.0.1:39111/", by(Scheme::Http)),
            ("a warning on something", None),
        ] {
            assert_eq!(parse_address(line), announced, "{line}");
        }
    }
}
