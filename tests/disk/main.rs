//! Disk faults and the store: failed writes and syncs, and a loss of power.
//!
//! The store is the real one. SQLite's files are on a simulated disk, which fails on request and computes the
//! contents after a loss of power. These tests are a process of their own, since the disk is under every
//! database that is opened in it.
#![cfg(target_os = "linux")]

use alldata_peer_test_support::rounds;

mod content;
mod disk;
mod fault;
mod load;
mod names;
mod vfs;

mod faults;
mod power;
