//! The checks of the fuzzers, in a library so that they have tests.
//!
//! [`decode`] and [`same_event`] compare the protocol crate with `serde_json::Value`, as [`oracle`]
//! makes it exact; [`socket`] sends bytes to a running [`program`] and reads its [`responses`].
//! A check that fails panics, which ends the fuzzer with the input as its finding.

pub mod decode;
pub mod oracle;
pub mod program;
pub mod responses;
pub mod same_event;
pub mod socket;
