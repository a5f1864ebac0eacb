//! Where commands write: a file that is whole or not there, standard output, standard error.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Writes `bytes` to a file, or to standard output for `-`.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |out| Ok(out.write_all(bytes)?))
}

/// Writes a line to standard output.
pub(crate) fn write_line(line: &str) -> Result<()> {
    write_with(Path::new("-"), |out| Ok(writeln!(out, "{line}")?))
}

/// Writes what `write` writes to a file, or to standard output for `-`. A file appears under its
/// name only once it is whole; what is there and is no file, such as a pipe, is written to.
pub(crate) fn write_with(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    if path == Path::new("-") {
        let mut out = BufWriter::new(io::stdout().lock());
        return write(&mut out)
            .and_then(|()| Ok(out.flush()?))
            .context("cannot write to standard output");
    }
    // Where a link leads: the link itself stays.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let is_special = fs::metadata(&target).is_ok_and(|metadata| !metadata.is_file());
    let written = match is_special {
        true => write_file(&target, write),
        false => replace_file(&target, write),
    };
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn replace_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let partial = partial_path(path);
    let written = write_file(&partial, write).and_then(|()| Ok(fs::rename(&partial, path)?));
    if written.is_err() {
        // What can't be removed is left under a name that says what it is.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn write_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    write(&mut out)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    if file.metadata()?.is_file() {
        file.sync_all()?;
    }
    Ok(())
}

fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    PathBuf::from(name)
}

/// Writes a line to standard error. Nobody is left to tell when that fails.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Whether a command failed only because nobody reads its output any more, as with `| head`.
pub(crate) fn is_reader_gone(error: &anyhow::Error) -> bool {
    error
        .root_cause()
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
