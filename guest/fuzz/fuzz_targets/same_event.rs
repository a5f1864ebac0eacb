//! Any two texts as events, and one in other spellings of it.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|texts: &[u8]| alldata_peer_fuzz::same_event::check(texts));
