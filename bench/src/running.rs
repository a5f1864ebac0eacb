//! A server that runs: its first line of output, and its process.

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
use crate::tools::Tools;

/// The time-out for a server to start, or to answer one put.
const DEADLINE: Duration = Duration::from_secs(30);

/// The time-out for a server to end: the default drain time-out of `alldata-peer`, and some time to close its
/// store.
const END_DEADLINE: Duration = Duration::from_secs(60);

/// The interval at which the end is checked.
const END_TICK: Duration = Duration::from_millis(10);

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
    pub(crate) fn start(mut command: Command, store: Arc<TempDir>, cache: &Path) -> Result<Self> {
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
