//! Small utilities that do not depend on the rest of the crate.

pub(crate) mod file_lock;
pub(crate) mod http_client;
pub(crate) mod log_limiter;
pub(crate) mod redaction;
pub(crate) mod regular_file;
pub(crate) mod reusable_timeout;
pub(crate) mod thread_number;
#[cfg(feature = "tls")]
pub(crate) mod timed_connector;
pub(crate) mod watched_files;
