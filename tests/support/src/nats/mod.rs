//! nats-servers for tests and benchmarks, links between them, and their disks.

pub mod cluster;
pub mod disks;
pub mod link;
pub mod node;
