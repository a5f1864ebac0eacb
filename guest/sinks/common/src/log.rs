//! The log of a sink: lines on standard error (`wasi:cli/stderr`), for the operator.
//!
//! Callers pass no event and no secret.

use alldata_peer_protocol::client::one_line;
use wasip2::cli::stderr::get_stderr;

/// Writes a line: shorter, by `one_line`, than the 4096 bytes that `blocking-write-and-flush` takes. A failure
/// is ignored, since there is nowhere to report it.
pub fn write(sink: &str, message: &str) {
    let line = alloc::format!("alldata-peer sink {sink}: {}\n", one_line(message));
    let _ = get_stderr().blocking_write_and_flush(line.as_bytes());
}
