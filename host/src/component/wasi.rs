//! What a component may see of the machine: what it was given, and nothing else.
//!
//! The built-in component looks at none of it. One that has a sink of its own finds its settings
//! in variables, its store in directories, and other servers by outgoing requests; what it writes
//! to standard error goes to the log. Standard output is closed, and so is the network but for HTTP.

use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::{fmt, io, mem};

use alldata_peer_guest::client::printable;
use tokio::io::AsyncWrite;
use wasmtime::error::Context as _;
use wasmtime::{Result, ensure};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::{FsPerms, WasiCtx};

/// The longest line that a component may write to the log, in bytes; a longer one is split.
const MAX_LOG_LINE_BYTES: usize = 8 * 1024;

/// What components are given.
#[derive(Clone, Default)]
pub(crate) struct World {
    /// Name and value. A value may be a secret.
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) directories: Vec<Directory>,
}

/// A directory that components are given.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Its name in the component.
    name: String,
    /// Device and number of what stood there at the start; `None` before, and where systems do not
    /// tell.
    identity: Option<(u64, u64)>,
}

impl Directory {
    pub(crate) fn new(path: PathBuf, name: String) -> Self {
        Self {
            path,
            name,
            identity: None,
        }
    }

    fn cannot_open(&self) -> String {
        format!("cannot open the directory {}", self.path.display())
    }

    #[cfg(unix)]
    fn find_identity(&self) -> io::Result<Option<(u64, u64)>> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = std::fs::metadata(&self.path)?;
        Ok(Some((metadata.dev(), metadata.ino())))
    }

    #[cfg(not(unix))]
    fn find_identity(&self) -> io::Result<Option<(u64, u64)>> {
        std::fs::metadata(&self.path).map(|_| None)
    }
}

impl World {
    /// Looks at the directories, so that they stay the same for all instances.
    pub(crate) fn settle(&mut self) -> Result<()> {
        for directory in &mut self.directories {
            let identity = directory.find_identity();
            directory.identity = identity.with_context(|| directory.cannot_open())?;
        }
        Ok(())
    }

    /// The world of one instance. A directory that took the place of another is an error: a store
    /// in two directories would be no store.
    pub(crate) fn open(&self) -> Result<WasiCtx> {
        let mut wasi = WasiCtx::builder();
        wasi.envs(&self.variables).stderr(Log);
        for directory in &self.directories {
            let identity = directory.find_identity();
            ensure!(
                identity.with_context(|| directory.cannot_open())? == directory.identity,
                "the directory {} is not the one that it was at the start",
                directory.path.display()
            );
            wasi.preopened_dir(&directory.path, &directory.name, FsPerms::ReadWrite)
                .with_context(|| directory.cannot_open())?;
        }
        Ok(wasi.build())
    }
}

impl fmt::Debug for World {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<&String> = self.variables.iter().map(|(name, _)| name).collect();
        formatter
            .debug_struct("World")
            .field("variables", &variables)
            .field("directories", &self.directories)
            .finish()
    }
}

/// Standard error of a component.
struct Log;

impl IsTerminal for Log {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Log {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(LogLines::default())
    }
}

/// Bytes on their way to the log, line by line.
#[derive(Default)]
struct LogLines(Vec<u8>);

impl LogLines {
    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                byte => self.0.push(*byte),
            }
            if self.0.len() >= MAX_LOG_LINE_BYTES {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = mem::take(&mut self.0);
        if !line.is_empty() {
            let line = printable(&String::from_utf8_lossy(&line));
            tracing::warn!("the component says: {line}");
        }
    }
}

impl Drop for LogLines {
    fn drop(&mut self) {
        self.end_line();
    }
}

impl AsyncWrite for LogLines {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
