//! The WASI context of a component: its environment variables and directories, and its standard error,
//! which is logged.
//!
//! A component with a sink of its own is configured by variables and stores events in directories. Standard
//! output is closed, and there is no network access except for outgoing HTTP requests. The built-in
//! component uses none of this.

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

/// The variables and directories of a component.
#[derive(Clone, Default)]
pub(crate) struct WasiConfig {
    /// Name and value. A value may be a secret.
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) directories: Vec<Directory>,
}

/// A directory that components may use.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Its name in the component.
    name: String,
    /// Device and inode number at the start; `None` before, and on systems without them.
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
    /// Records the identity of the directories, so that all instances get the same ones.
    pub(crate) fn preopen(&mut self) -> Result<()> {
        for directory in &mut self.directories {
            let identity = directory.find_identity();
            directory.identity = identity.with_context(|| directory.cannot_open())?;
        }
        Ok(())
    }

    /// The context of one instance. It is an error if a path now leads to another directory: a store must
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

/// Splits bytes into lines, and logs them.
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
            tracing::warn!("component: {line}");
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
