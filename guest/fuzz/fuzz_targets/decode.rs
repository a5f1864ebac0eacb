//! Any bytes as the body of a `_put`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| alldata_peer_fuzz::decode::check(body));
