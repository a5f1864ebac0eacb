//! What the tests stand on: a peer to test, a client that sends any bytes, and deadlines.

mod client;
mod embedded;
mod peer;
mod process;

use std::time::Duration;

pub(crate) use client::{Answer, Connection, Post, chunked};
pub(crate) use embedded::Embedded;
pub(crate) use peer::Peer;
pub(crate) use process::{Output, run, run_with_input};

/// How long any single wait may take before its test fails. Generous: the machine may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
