//! What the fuzzers check, apart from the fuzzers, so that it can be tested itself.
//!
//! [`decode`] and [`same_event`] compare the guest's code with `serde_json::Value`, as [`oracle`]
//! makes it exact; [`socket`] sends bytes to a running [`program`] and reads what [`answers`] it
//! gives. A check that does not hold panics, which ends the fuzzer with the input as its finding.

pub mod answers;
pub mod decode;
pub mod oracle;
pub mod program;
pub mod same_event;
pub mod socket;
