//! Shared code of the sink components: variables, log, names for keys, comparison of events.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alldata_peer_freestanding as _;

pub mod compare;
pub mod env;
pub mod keyvalue;
pub mod log;
pub mod name;
