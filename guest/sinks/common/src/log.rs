//! The log of a sink: lines on standard error (`wasi:cli/stderr`), for the operator.
//!
//! Never for the client, and never with an event or a secret in it.

use alldata_peer_guest::client::one_line;
use wasip2::cli::stderr::get_stderr;

/// How much `blocking-write-and-flush` takes at once, by its definition in `wasi:io`.
const WRITE_BYTES: usize = 4096;

/// Writes a line. Nobody is left to tell when that fails.
pub fn write(sink: &str, message: &str) {
    let line = alloc::format!("alldata-peer sink {sink}: {}\n", one_line(message));
    let stderr = get_stderr();
    for chunk in line.as_bytes().chunks(WRITE_BYTES) {
        if stderr.blocking_write_and_flush(chunk).is_err() {
            return;
        }
    }
}
