//! Support for all tests: a peer to test, a client that sends any bytes, and deadlines.

pub mod admin;
mod client;
mod composed;
#[cfg(feature = "library")]
mod embedded;
mod event_files;
mod example;
mod files;
#[cfg(feature = "library")]
mod gate;
#[cfg(feature = "library")]
mod handler_only;
mod host_process;
mod javascript_peer;
mod jco;
mod limits;
mod lines;
pub mod nats;
mod npm;
mod npm_package;
mod own_disk;
mod peer;
mod post;
mod process;
#[cfg(feature = "library")]
pub mod protocol_guest;
pub mod rounds;
mod runtime;
mod scripted;
mod skip;
mod wash;
mod wasmtime_serve;
#[cfg(feature = "library")]
mod wire;
mod workerd;

use std::thread;
use std::time::{Duration, Instant};

pub use client::{Answer, ClientStream, Connection, try_connect};
pub use composed::{SINKS, composed, composed_for_wasi_0_3};
#[cfg(feature = "library")]
pub use embedded::Embedded;
pub use event_files::EventFiles;
pub use example::Example;
pub use files::files_beside;
#[cfg(feature = "library")]
pub use gate::Gate;
#[cfg(feature = "library")]
pub use handler_only::{
    both_components, handler_beside, handler_only, handler_only_binary, handler_only_file,
    peer_before,
};
pub use host_process::HostProcess;
pub use javascript_peer::JavaScriptPeer;
pub use jco::{Jco, componentize};
pub use lines::Lines;
pub use npm::install as install_npm;
pub use npm_package::{built_package, installed_package};
pub use own_disk::{no_own_disk, run_on_read_only_disk, serve_on_read_only_disk};
pub use peer::{Peer, PeerBuilder};
pub use post::{Post, chunked};
pub use process::{
    COMPILE_CACHE, Output, finish, run, run_by, run_on_terminal, run_with_input, serve,
};
pub use runtime::Runtime;
pub use scripted::{Exchange, ScriptedPeer};
pub use skip::{can_make, no_strace};
pub use wash::Wash;
pub use wasmtime_serve::Wasmtime;
#[cfg(feature = "library")]
pub use wire::Wire;
pub use workerd::serve_by_workerd;

/// The time-out of any single wait. Generous, since the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The interval at which a condition is checked.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Waits until a condition holds.
#[track_caller]
pub fn wait_until(what: &str, holds: impl FnMut() -> bool) {
    wait_until_within(DEADLINE, what, holds);
}

/// Waits until a condition holds, for at most this long.
#[track_caller]
pub fn wait_until_within(deadline: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < deadline, "not in time: {what}");
        // Never unparked: this only yields the processor.
        thread::park_timeout(LOOK_AGAIN);
    }
}
