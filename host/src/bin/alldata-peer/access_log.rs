//! `--access-log`: a file, or standard output.

use std::io;
use std::path::{Path, PathBuf, absolute};

use alldata_peer_server_http::AccessLog;

use crate::arguments::Serve;

/// The path that stands for standard output.
const STANDARD_OUTPUT: &str = "-";

/// The beginning of the URL of a sink that writes to a file, or to standard output.
const FILE_SINK: &str = "ndjson:";

/// The events and the access log would be mixed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SharedOutput {
    #[error(
        "--access-log and --sink ndjson: would both write to standard output: use a file for one of them"
    )]
    Stdout,
    #[error("--access-log and --sink ndjson: would both write to {}: use another file for one of them", .0.display())]
    File(PathBuf),
}

/// Opens the access log, if there is to be one. Blocks.
pub(crate) fn open(arguments: &Serve) -> anyhow::Result<Option<AccessLog>> {
    let Some(path) = path(arguments)? else {
        return Ok(None);
    };
    let log = match path == Path::new(STANDARD_OUTPUT) {
        true => AccessLog::to_writer(io::stdout())?,
        false => AccessLog::open(path)?,
    };
    Ok(Some(log))
}

/// Checks that it can be opened, without creating its file. Blocks.
pub(crate) fn check(arguments: &Serve) -> anyhow::Result<()> {
    match path(arguments)? {
        Some(path) if path != Path::new(STANDARD_OUTPUT) => Ok(AccessLog::check(path)?),
        _ => Ok(()),
    }
}

/// Whether events or the access log are written to standard output by the name `-`.
pub(crate) fn is_stdout_taken(arguments: &Serve) -> bool {
    let is_stdout = |path: Option<&Path>| path == Some(Path::new(STANDARD_OUTPUT));
    is_stdout(arguments.access_log.as_deref()) || is_stdout(sink_path(arguments))
}

fn path(arguments: &Serve) -> Result<Option<&Path>, SharedOutput> {
    let Some(path) = arguments.access_log.as_deref() else {
        return Ok(None);
    };
    let shares = |sink: &Path| is_same_file(sink, path) || is_same_path(sink, path);
    match sink_path(arguments) {
        Some(sink) if shares(sink) => Err(match path == Path::new(STANDARD_OUTPUT) {
            true => SharedOutput::Stdout,
            false => SharedOutput::File(path.to_owned()),
        }),
        _ => Ok(Some(path)),
    }
}

/// Whether both will be the same file, if it does not exist yet.
fn is_same_path(one: &Path, other: &Path) -> bool {
    match (absolute(one), absolute(other)) {
        (Ok(one), Ok(other)) => one == other && !one.starts_with("/dev"),
        _ => false,
    }
}

/// The path of the sink `ndjson:`.
fn sink_path(arguments: &Serve) -> Option<&Path> {
    let url = arguments.sink.as_deref()?;
    url.strip_prefix(FILE_SINK).map(Path::new)
}

/// Whether both are the same file or pipe. Devices, such as `/dev/null`, may be shared.
#[cfg(unix)]
fn is_same_file(one: &Path, other: &Path) -> bool {
    use std::os::fd::AsFd as _;

    use rustix::fs::{FileType, fstat, stat};

    let identity = |path: &Path| {
        let found = match path == Path::new(STANDARD_OUTPUT) {
            true => fstat(io::stdout().as_fd()),
            false => stat(path),
        };
        let found = found.ok()?;
        let is_device = FileType::from_raw_mode(found.st_mode).is_char_device();
        (!is_device).then_some((found.st_dev, found.st_ino))
    };
    let identity_of_one = identity(one);
    identity_of_one.is_some() && identity_of_one == identity(other)
}

#[cfg(not(unix))]
fn is_same_file(_: &Path, _: &Path) -> bool {
    false
}
