//! The log of a sink: lines on standard error (`wasi:cli/stderr`), for the operator.
//!
//! Never for the client, and never with an event or a secret in it.

use alldata_peer_protocol::client::one_line;
use wasip2::cli::stderr::get_stderr;

/// Writes a line, of which `blocking-write-and-flush` takes 4096 bytes and `one_line` leaves fewer.
/// Nobody is left to tell when that fails.
pub fn write(sink: &str, message: &str) {
    let line = alloc::format!("alldata-peer sink {sink}: {}\n", one_line(message));
    let _ = get_stderr().blocking_write_and_flush(line.as_bytes());
}
