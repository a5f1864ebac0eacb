//! What a disk does to the store: writes and syncs that fail, and a loss of power.
//!
//! The store is the real one. SQLite's files are on a simulated disk, which fails when it is told
//! to and knows what a loss of power leaves. A process of its own, since the disk is under every
//! database that is opened here.
#![cfg(target_os = "linux")]

use alldata_peer_test_support::rounds;

mod content;
mod disk;
mod load;
mod names;
mod trouble;
mod vfs;

mod faults;
mod power;
