//! Any bytes on a connection to the real program.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| alldata_peer_fuzz::socket::check(bytes));
