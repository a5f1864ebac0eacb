//! Where commands write: a file that is whole or not there, a pipe, standard output, standard error.
//!
//! Never writes into a file that is a store's.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};
use std::path::{Path, PathBuf};

use alldata_peer_protocol::client::printable;
use alldata_peer_server_http::store::{is_locked_by_another, writable_target};
use anyhow::{Context as _, Result, bail};

use crate::atomic_file::AtomicFile;

/// What stands for standard output.
pub(crate) const STDOUT: &str = "-";

/// Its path, where systems have one.
const STDOUT_PATH: &str = "/dev/stdout";

/// Where systems have the open files of processes as if they were links, and its own standard output
/// for this one.
const OPEN_FILES: &str = "/proc";
const OWN_OPEN_FILES: &str = "/proc/self/fd";
const OWN_STDOUT: &str = "1";

/// The most links that are followed, as on Linux.
const MAX_LINKS: u32 = 40;

/// What an output can't take.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {name}")]
struct WriteError {
    /// What it is written to, for people.
    name: String,
    source: io::Error,
}

/// What a command writes to. A file appears under its name only by [`finish`](Self::finish).
pub(crate) struct Output {
    name: String,
    target: BufWriter<Target>,
}

enum Target {
    Stdout(StdoutLock<'static>),
    /// What is there and is no file of its own, such as a pipe: it is written to.
    Special(File),
    File(AtomicFile),
}

impl Output {
    /// Standard output for `-`, or else what is at `path`, with links followed.
    ///
    /// # Errors
    ///
    /// When it can't be made, or is a store's or locked by another program: then it is not changed.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let target = if path == Path::new(STDOUT) || is_own_stdout(path) {
            // The shell may have opened a store for that.
            if Path::new(STDOUT_PATH).exists() {
                writable_target(Path::new(STDOUT_PATH))?;
            }
            Target::Stdout(io::stdout().lock())
        } else {
            open_path(path)?
        };
        let name = match &target {
            Target::Stdout(_) => "to standard output".to_owned(),
            _ => path.display().to_string(),
        };
        Ok(Self {
            name,
            target: BufWriter::new(target),
        })
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.target.write_all(bytes);
        Ok(written.map_err(|source| self.failed(source))?)
    }

    /// Writes the rest. Only now a file has its name.
    pub(crate) fn finish(self) -> Result<()> {
        let Self { name, target } = self;
        let failed = |source| WriteError { name, source };
        let target = target.into_inner().map_err(io::IntoInnerError::into_error);
        let finished = target.and_then(|target| match target {
            Target::Stdout(mut stdout) => stdout.flush(),
            Target::Special(file) => sync_if_file(&file),
            Target::File(file) => file.commit(),
        });
        Ok(finished.map_err(failed)?)
    }

    fn failed(&self, source: io::Error) -> WriteError {
        WriteError {
            name: self.name.clone(),
            source,
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::Special(file) => file.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::Special(file) => file.flush(),
            Self::File(file) => file.flush(),
        }
    }
}

fn open_path(path: &Path) -> Result<Target> {
    let cannot_write = || format!("cannot write {}", path.display());
    // Of such a path, only what is before the slash would be taken.
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        bail!("{}: it names a directory", cannot_write());
    }
    let file = writable_target(path)?;
    let is_file = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    if is_file && descriptor(path).is_none() {
        refuse_locked(path)?;
    } else if path.exists() {
        let special = OpenOptions::new().append(true).open(path);
        return special.map(Target::Special).with_context(cannot_write);
    }
    AtomicFile::create(&file)
        .map(Target::File)
        .with_context(cannot_write)
}

/// Holds that no program has a file locked, such as a server that appends to it.
fn refuse_locked(path: &Path) -> Result<()> {
    if is_locked_by_another(path) {
        bail!(
            "cannot write {}: another program has it locked",
            path.display()
        );
    }
    Ok(())
}

/// The directory and the name of the descriptor by way of which a path such as `/dev/stdout` leads to a
/// file: what has that open goes on in it, so it is not replaced.
fn descriptor(path: &Path) -> Option<(PathBuf, OsString)> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let link = fs::read_link(&path).ok()?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let directory = fs::canonicalize(Path::new(".").join(directory)).ok()?;
        if directory.starts_with(OPEN_FILES) {
            return Some((directory, path.file_name()?.to_owned()));
        }
        path = directory.join(link);
    }
    None
}

/// Whether a path leads to the standard output of this process, which has a place in its file.
fn is_own_stdout(path: &Path) -> bool {
    let own = fs::canonicalize(OWN_OPEN_FILES);
    descriptor(path).is_some_and(|(directory, name)| {
        name == OWN_STDOUT && own.is_ok_and(|own| own == directory)
    })
}

fn sync_if_file(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() {
        file.sync_all()?;
    }
    Ok(())
}

/// Writes `bytes` to a file, or to standard output for `-`.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut out = Output::open(path)?;
    out.write_all(bytes)?;
    out.finish()
}

/// Writes a line to standard output.
pub(crate) fn write_line(line: &str) -> Result<()> {
    write_whole(Path::new(STDOUT), format!("{line}\n").as_bytes())
}

/// Writes a line to standard error, with control characters escaped: what a peer or a file says
/// may be in it. Nobody is left to tell when that fails.
pub(crate) fn report(line: &str) {
    // At once, so that no other thread's line comes into it.
    let _ = io::stderr().write_all(format!("{}\n", printable(line)).as_bytes());
}

/// Whether a command failed only because nobody reads its output any more, as with `| head`.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_gone = |error: &WriteError| error.source.kind() == ErrorKind::BrokenPipe;
    error.downcast_ref().is_some_and(is_gone)
}
