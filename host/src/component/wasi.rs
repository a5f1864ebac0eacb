//! The WASI context of a component: the variables and directories that it is given, and a standard error
//! that goes to the log.
//!
//! A component with a sink of its own finds its settings in variables and its store in directories. Standard
//! output is closed, and so is the network, except for outgoing HTTP requests. The built-in component uses
//! none of it.

use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::{fmt, io, mem};

use alldata_peer_protocol::client::printable;
use tokio::io::AsyncWrite;
use wasmtime::error::Context as _;
use wasmtime::{Result, ensure};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::{FsPerms, WasiCtx};

/// The longest line that a component may write to the log, in bytes; a longer one is split.
const MAX_LOG_LINE_BYTES: usize = 8 * 1024;

/// The variables and directories that a component is given.
#[derive(Clone, Default)]
pub(crate) struct WasiConfig {
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

impl WasiConfig {
    /// Finds the directories, so that all instances get the same ones.
    pub(crate) fn preopen(&mut self) -> Result<()> {
        for directory in &mut self.directories {
            let identity = directory.find_identity();
            directory.identity = identity.with_context(|| directory.cannot_open())?;
        }
        Ok(())
    }

    /// The context of one instance. It is an error if another directory is at the path by now: a store must
    /// not be spread over two directories.
    pub(crate) fn build_ctx(&self) -> Result<WasiCtx> {
        let mut ctx = WasiCtx::builder();
        ctx.envs(&self.variables).stderr(Log);
        for directory in &self.directories {
            let identity = directory.find_identity();
            ensure!(
                identity.with_context(|| directory.cannot_open())? == directory.identity,
                "the directory {} is not the one that it was at the start",
                directory.path.display()
            );
            ctx.preopened_dir(&directory.path, &directory.name, FsPerms::ReadWrite)
                .with_context(|| directory.cannot_open())?;
        }
        Ok(ctx.build())
    }
}

impl fmt::Debug for WasiConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<&String> = self.variables.iter().map(|(name, _)| name).collect();
        formatter
            .debug_struct("WasiConfig")
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
