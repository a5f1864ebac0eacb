//! Servers of NATS for tests and benchmarks, links between them, and disks under them.

pub mod cluster;
pub mod disks;
pub mod link;
