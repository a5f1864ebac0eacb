//! `--access-log`: a file, or standard output.

use std::io;
use std::path::Path;

use alldata_peer_server_http::AccessLog;

use crate::arguments::Serve;

/// The path that stands for standard output.
const STANDARD_OUTPUT: &str = "-";

/// The sink that writes to standard output.
const STANDARD_OUTPUT_SINK: &str = "ndjson:-";

/// Standard output would have both the events and the access log.
#[derive(Debug, thiserror::Error)]
#[error(
    "--access-log - and --sink ndjson:- would both write to standard output: use a file for one of them"
)]
pub(crate) struct SharedOutput;

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

fn path(arguments: &Serve) -> Result<Option<&Path>, SharedOutput> {
    let path = arguments.access_log.as_deref();
    let is_sink = arguments.sink.as_deref() == Some(STANDARD_OUTPUT_SINK);
    match path {
        Some(path) if is_sink && path == Path::new(STANDARD_OUTPUT) => Err(SharedOutput),
        path => Ok(path),
    }
}
