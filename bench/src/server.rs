//! The compared servers: how each is started, its first line of output, and its process.

use std::env;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::process::{self, Memory};
use crate::tools::{Certificate, Tools};

/// The time-out for a server to start, or to answer one put.
const DEADLINE: Duration = Duration::from_secs(30);

/// The time-out for a server to end: the default drain time-out of `alldata-peer`, and some time to close its
/// store.
const END_DEADLINE: Duration = Duration::from_secs(60);

/// The interval at which the end is checked.
const END_TICK: Duration = Duration::from_millis(10);

/// The documented behaviour of the original on Node.
const NODE_SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node/server.js");

/// The npm package, with the original's interface.
const DROP_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node/drop-in.mjs");

/// The file name of the store in its directory.
pub(crate) const STORE: &str = "store.db";

/// A server that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    TwinDiscard,
    PeerDiscard,
    /// The same over TLS.
    PeerTls,
    Node,
    /// The npm package with the interface of the original.
    NodeDropIn,
    WasmtimeReuse,
    Wasmtime,
    /// The component for WASI 0.3, whose instances serve several requests.
    WasmtimeWasi03,
    PeerFresh,
    /// The component that `wasmtime serve` runs, called through `wasi:http`.
    PeerComposed,
    TwinSqlite,
    PeerSqlite,
    /// The library with a sink that never completes a put.
    SlowSink,
    /// The sink `nats:`.
    PeerNats,
    /// A stream without a peer, to which the benchmark itself publishes.
    NatsAlone,
    /// The same, connected to the server that leads the stream, as a peer is.
    NatsAloneAtLeader,
    /// These three, with the nats-servers on processors of their own.
    PeerNatsSeparateCores,
    NatsAloneSeparateCores,
    NatsAloneAtLeaderSeparateCores,
}

impl Server {
    /// The compared servers, in the order of the table.
    pub(crate) const COMPARED: [Self; 12] = [
        Self::TwinDiscard,
        Self::PeerDiscard,
        Self::PeerTls,
        Self::Node,
        Self::NodeDropIn,
        Self::WasmtimeReuse,
        Self::Wasmtime,
        Self::WasmtimeWasi03,
        Self::PeerFresh,
        Self::PeerComposed,
        Self::TwinSqlite,
        Self::PeerSqlite,
    ];

    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TwinDiscard => "native twin, discard",
            Self::PeerDiscard => "alldata-peer, discard",
            Self::PeerTls => "alldata-peer, discard over TLS",
            Self::Node => "the original on Node",
            Self::NodeDropIn => "npm package on Node",
            Self::WasmtimeReuse => "wasmtime serve, instances reused",
            Self::Wasmtime => "wasmtime serve, as it comes",
            Self::WasmtimeWasi03 => "wasmtime serve, WASI 0.3",
            Self::PeerFresh => "alldata-peer, fresh instances",
            Self::PeerComposed => "alldata-peer, composed component",
            Self::TwinSqlite => "native twin, sqlite",
            Self::PeerSqlite => "alldata-peer, sqlite",
            Self::SlowSink => "alldata-peer, embedded",
            Self::PeerNats => "alldata-peer, nats",
            Self::NatsAlone => "async-nats alone",
            Self::NatsAloneAtLeader => "async-nats alone, at the leader",
            Self::PeerNatsSeparateCores => "alldata-peer, nats on separate cores",
            Self::NatsAloneSeparateCores => "async-nats alone, nats on separate cores",
            Self::NatsAloneAtLeaderSeparateCores => {
                "async-nats alone, at the leader, nats on separate cores"
            }
        }
    }

    /// Whether its files are on this machine.
    pub(crate) fn is_there(self, tools: &Tools) -> bool {
        match self {
            Self::Node => tools.node.is_some(),
            Self::NodeDropIn => tools.node.is_some() && tools.npm_package.is_some(),
            Self::WasmtimeReuse | Self::Wasmtime | Self::WasmtimeWasi03 => tools.wasmtime.is_some(),
            _ => true,
        }
    }

    /// Starts it with the compiled components of earlier runs.
    pub(crate) fn start(self, tools: &Tools) -> Result<Running> {
        self.start_with_cache(tools, &tools.cache())
    }

    /// Starts it with this directory for compiled components.
    pub(crate) fn start_with_cache(self, tools: &Tools, cache: &Path) -> Result<Running> {
        let store = Arc::new(tempfile::tempdir_in(tools.scratch.path())?);
        let command = self.command(tools, &store.path().join(STORE))?;
        Running::start(command, store, cache)
            .with_context(|| format!("cannot start {}", self.name()))
    }

    /// Starts `alldata-peer` on this port, possibly with an existing store.
    pub(crate) fn start_peer(tools: &Tools, store: &Arc<TempDir>, port: u16) -> Result<Running> {
        let sink = format!("sqlite:{}", store.path().join(STORE).display());
        let command = serve(tools, &sink, port);
        Running::start(command, Arc::clone(store), &tools.cache())
            .with_context(|| format!("cannot start alldata-peer on port {port}"))
    }

    /// Starts `alldata-peer` with a sink on another server.
    pub(crate) fn start_with_sink(tools: &Tools, sink: &str) -> Result<Running> {
        let store = Arc::new(tempfile::tempdir_in(tools.scratch.path())?);
        Running::start(serve(tools, sink, 0), store, &tools.cache())
            .with_context(|| format!("cannot start alldata-peer with {sink}"))
    }

    fn command(self, tools: &Tools, store: &Path) -> Result<Command> {
        let sqlite = format!("sqlite:{}", store.display());
        let peer = |arguments: &[&str]| {
            let mut command = Command::new(&tools.peer);
            command.args(["serve", "--hostname", "127.0.0.1", "--port", "0"]);
            command.args(arguments);
            command
        };
        let composed = || {
            let mut command = peer(&["--component"]);
            command.arg(&tools.composed);
            command
        };
        let twin = |sink: &str| {
            let mut command = Command::new(&tools.twin);
            command.arg(sink);
            command
        };
        let node = |arguments: &[&Path]| {
            let program = tools.node.as_ref().context("there is no Node")?;
            let mut command = Command::new(program);
            command.args(arguments);
            anyhow::Ok(command)
        };
        let wasmtime = |arguments: &[&str], component: &Path| {
            let program = tools.wasmtime.as_ref().context("there is no wasmtime")?;
            let mut command = Command::new(program);
            command.args(["serve", "--addr", "127.0.0.1:0"]);
            command.args(arguments).arg(component);
            anyhow::Ok(command)
        };
        Ok(match self {
            Self::TwinDiscard => twin("discard:"),
            Self::TwinSqlite => twin(&sqlite),
            Self::PeerDiscard => peer(&["--sink", "discard:"]),
            Self::PeerTls => {
                let mut command = peer(&["--sink", "discard:", "--tls-cert"]);
                let Certificate { chain, key } = &tools.certificate;
                command.arg(chain).arg("--tls-key").arg(key);
                command
            }
            Self::PeerFresh => peer(&["--sink", "discard:", "--max-instance-reuse-count", "1"]),
            Self::PeerComposed => composed(),
            Self::PeerSqlite => peer(&["--sink", &sqlite]),
            Self::WasmtimeReuse => {
                wasmtime(&["--max-instance-reuse-count", "1000000"], &tools.composed)?
            }
            Self::Wasmtime => wasmtime(&[], &tools.composed)?,
            Self::WasmtimeWasi03 => wasmtime(&[], &tools.composed_wasi_0_3)?,
            Self::Node => node(&[NODE_SERVER.as_ref()])?,
            Self::NodeDropIn => {
                let package = tools.npm_package.as_ref();
                node(&[
                    DROP_IN.as_ref(),
                    package.context("the package is not built")?,
                ])?
            }
            Self::SlowSink => Command::new(&tools.slow_sink),
            Self::PeerNats
            | Self::NatsAlone
            | Self::NatsAloneAtLeader
            | Self::PeerNatsSeparateCores
            | Self::NatsAloneSeparateCores
            | Self::NatsAloneAtLeaderSeparateCores => bail!("it needs a stream"),
        })
    }
}

fn serve(tools: &Tools, sink: &str, port: u16) -> Command {
    let mut command = Command::new(&tools.peer);
    command.args(["serve", "--hostname", "127.0.0.1", "--sink", sink]);
    command.args(["--port", &port.to_string()]);
    command
}

/// The scheme of a server's URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// A server that listens. It is killed when this is dropped, and its store is removed with the last reference
/// to it.
pub(crate) struct Running {
    child: Child,
    started: Instant,
    address: SocketAddr,
    scheme: Scheme,
    lines: Receiver<String>,
    store: Arc<TempDir>,
}

impl Running {
    fn start(mut command: Command, store: Arc<TempDir>, cache: &Path) -> Result<Self> {
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
        let started = Instant::now();
        let child = command.spawn()?;
        // The pipe ends with the server only if no other process can write to it.
        drop(command);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                // Read to the end in any case, so that the server never blocks.
                let _ = sender.send(line);
            }
        });
        let mut running = Self {
            child,
            started,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            scheme: Scheme::Http,
            lines,
            store,
        };
        (running.scheme, running.address) = running.announced()?;
        Ok(running)
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

    /// The URL that takes puts.
    pub(crate) fn url(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        format!("{scheme}://{}/_put", self.address)
    }

    /// The time since its start.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Its processor time so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        process::cpu_seconds(self.child.id())
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        process::memory(self.child.id())
    }

    /// The number of its open file descriptors.
    pub(crate) fn open_files(&self) -> Result<u64> {
        process::open_files(self.child.id())
    }

    pub(crate) fn threads(&self) -> Result<u64> {
        process::threads(self.child.id())
    }

    /// The size of all files of its store, in bytes.
    pub(crate) fn store_bytes(&self) -> Result<u64> {
        let files = self.store.path().read_dir()?;
        files.map(|file| Ok(file?.metadata()?.len())).sum()
    }

    /// Sends it a line, and returns the next line of its output.
    pub(crate) fn ask(&mut self, line: &str) -> Result<String> {
        let stdin = self.child.stdin.as_mut();
        writeln!(stdin.context("its input is closed")?, "{line}")?;
        Ok(self.lines.recv_timeout(DEADLINE)?)
    }

    /// Sends one put on a new connection, which is returned: the response is yet to come.
    pub(crate) fn send(&self, key: &str) -> Result<TcpStream> {
        let body = format!(r#"{{"key":"{key}","event":{{"customer":1}}}}"#);
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let (host, length) = (self.address, body.len());
        let head = format!("POST /_put HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n");
        stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
        Ok(stream)
    }

    /// Puts one event and checks for 201: wrk counts any 2xx as a success.
    pub(crate) fn put(&self, tools: &Tools, key: &str) -> Result<()> {
        if self.scheme == Scheme::Https {
            return self.put_over_tls(tools, key);
        }
        let mut status = [0; "HTTP/1.1 201".len()];
        self.send(key)?.read_exact(&mut status)?;
        let answered = String::from_utf8_lossy(&status);
        ensure!(&status == b"HTTP/1.1 201", "it answered {answered:?}");
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

    /// Fails if the server has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                let lines: Vec<String> = self.lines.try_iter().collect();
                bail!("it ended with {status}: {}", lines.join("\n"))
            }
        }
    }

    /// Sends SIGTERM, and waits until it has ended.
    pub(crate) fn terminate(mut self) -> Result<ExitStatus> {
        let signalled = Instant::now();
        // The process id of one that has ended may be in use again.
        self.check()?;
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(signalled.elapsed() < END_DEADLINE, "it does not end");
            thread::sleep(END_TICK);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a variable of the environment would change the measurement.
fn changes_figures(variable: &str) -> bool {
    let others = ["NODE_OPTIONS", "RUST_LOG", "TOKIO_WORKER_THREADS"];
    variable.starts_with("ALLDATA_PEER_") || others.contains(&variable)
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
