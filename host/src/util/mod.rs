//! Utilities that depend on the errors of the crate only.

pub(crate) mod file_lock;
pub(crate) mod http_client;
pub(crate) mod identity;
pub(crate) mod log_limiter;
pub(crate) mod ndjson;
pub(crate) mod poll_on_wake;
pub(crate) mod redaction;
pub(crate) mod regular_file;
pub(crate) mod request_id;
pub(crate) mod reusable_timeout;
pub(crate) mod thread_number;
#[cfg(feature = "tls")]
pub(crate) mod timed_connector;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(feature = "otlp")]
pub(crate) mod trace_context;
#[cfg(test)]
pub(crate) mod wake_counter;
pub(crate) mod watched_files;
