//! Small parts that know nothing of peers.

pub(crate) mod file_lock;
pub(crate) mod log_limiter;
pub(crate) mod redaction;
pub(crate) mod regular_file;
pub(crate) mod reusable_timeout;
pub(crate) mod self_connection;
