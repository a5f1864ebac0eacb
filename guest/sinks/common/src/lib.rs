//! What the sink components have in common: their settings, their log, their names for keys,
//! and when what they hold is what is put.
//!
//! Never puts anything anywhere.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alldata_peer_freestanding as _;

pub mod held;
pub mod keyvalue;
pub mod log;
pub mod name;
pub mod setting;
