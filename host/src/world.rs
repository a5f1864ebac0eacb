//! What a component may see of the machine: what it was given, and nothing else.
//!
//! The built-in component looks at none of it. One that has a sink of its own finds its settings
//! in variables, its store in directories, and other servers by outgoing requests; what it writes
//! to standard error goes to the log. Standard output is closed, and so is the network but for HTTP.

use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::{io, mem};

use tokio::io::AsyncWrite;
use wasmtime::{Result, error::Context as _};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::{FsPerms, WasiCtx};

/// The longest line that a component may write to the log, in bytes; a longer one is split.
const MAX_LOG_LINE_BYTES: usize = 8 * 1024;

/// What components are given.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    /// Name and value.
    pub(crate) variables: Vec<(String, String)>,
    /// The directory, and its name in the component.
    pub(crate) directories: Vec<(PathBuf, String)>,
}

impl World {
    /// The world of one instance.
    pub(crate) fn open(&self) -> Result<WasiCtx> {
        let mut wasi = WasiCtx::builder();
        wasi.envs(&self.variables).stderr(Log);
        for (directory, name) in &self.directories {
            wasi.preopened_dir(directory, name, FsPerms::ReadWrite)
                .with_context(|| format!("cannot open the directory {}", directory.display()))?;
        }
        Ok(wasi.build())
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
            tracing::warn!("the component says: {}", String::from_utf8_lossy(&line));
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
