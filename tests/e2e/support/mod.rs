//! What the tests stand on: a peer to test, a client that sends any bytes, and deadlines.

mod client;
mod composed;
mod embedded;
mod event_files;
mod files;
mod handler_only;
mod jco;
pub(crate) mod keyvalue;
mod limits;
mod lines;
mod own_disk;
mod peer;
mod process;
pub(crate) mod put_handler_guest;
mod scripted;
mod skip;
pub(crate) mod turns;
mod wasmtime_serve;
mod wire;

use std::thread;
use std::time::{Duration, Instant};

pub(crate) use client::{Answer, Connection, Post, chunked};
pub(crate) use composed::{SINKS, composed};
pub(crate) use embedded::Embedded;
pub(crate) use event_files::EventFiles;
pub(crate) use files::files_beside;
pub(crate) use handler_only::{handler_beside, handler_only, handler_only_file, peer_before};
pub(crate) use jco::{Jco, componentize};
pub(crate) use own_disk::{no_own_disk, run_on_read_only_disk, serve_on_read_only_disk};
pub(crate) use peer::{Peer, PeerBuilder};
pub(crate) use process::{
    COMPILE_CACHE, Output, run, run_by, run_on_terminal, run_with_input, serve,
};
pub(crate) use scripted::{Exchange, ScriptedPeer};
pub(crate) use skip::can_make;
pub(crate) use wasmtime_serve::{Wasmtime, WasmtimeServe};
pub(crate) use wire::Wire;

/// How long any single wait may take before its test fails. Generous: the machine may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// How long to wait before a condition is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Waits until a condition holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, holds: impl FnMut() -> bool) {
    wait_until_within(DEADLINE, what, holds);
}

/// Waits until a condition holds, for so long.
#[track_caller]
pub(crate) fn wait_until_within(deadline: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < deadline, "not in time: {what}");
        // Nobody unparks it: it only leaves the processor to others.
        thread::park_timeout(LOOK_AGAIN);
    }
}
