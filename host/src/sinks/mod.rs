//! The sinks that come with the crate, and the URLs that name them.

mod append_file;
mod appended;
mod discard;
mod http;
mod memory;
#[cfg(feature = "nats")]
pub mod nats;
mod ndjson;
mod open_append;
mod rotation;
mod sqlite;

use std::path;

pub use discard::DiscardSink;
pub use http::{HealthError, HttpPutError, HttpSink};
pub use memory::{MEMORY_SINK_BYTES, MemorySink};
#[cfg(feature = "nats")]
pub use nats::NatsSink;
#[cfg(feature = "nats")]
use nats::NatsUrl;
pub use ndjson::NdjsonSink;
pub use sqlite::SqliteSink;

use crate::error::Error;
pub use crate::sink::group_commit::{
    DEFAULT_MAX_QUEUED_BYTES, DEFAULT_MAX_QUEUED_PUTS, MAX_QUEUED_PUTS, QueueLimits,
};
use crate::sink::{BoxSink, PutSink as _};
use crate::store::{DEFAULT_MAX_WAL_BYTES, path_of_url};
use crate::util::redaction::without_login;

/// The forms of the URLs of sinks, for messages.
pub const URL_FORMS: &str = "sqlite:PATH, memory:, ndjson:PATH, ndjson:- (standard output), http://HOST:PORT/PATH, https://HOST:PORT/PATH, nats://HOST:PORT,…/STREAM or discard:";

/// Opens the sink of a URL; see [`URL_FORMS`]. A sink that needs a connection or a thread of its own uses
/// the current Tokio runtime.
///
/// # Errors
///
/// When the URL has none of these forms, or the sink cannot be opened.
pub async fn open(url: &str) -> Result<BoxSink, Error> {
    open_with_queue(url, QueueLimits::default()).await
}

/// The same with other limits of the queue, for the sinks that have one: `sqlite:`, `ndjson:` and `nats:`.
///
/// # Errors
///
/// As for [`open`].
pub async fn open_with_queue(url: &str, queue: QueueLimits) -> Result<BoxSink, Error> {
    let options = SinkOptions {
        queue,
        ..SinkOptions::default()
    };
    open_with(url, options).await
}

/// The same with other options.
///
/// # Errors
///
/// As for [`open`], and when the verification finds that the store is damaged.
pub async fn open_with(url: &str, options: SinkOptions) -> Result<BoxSink, Error> {
    #[cfg(feature = "nats")]
    if NatsUrl::is_one(url) {
        return Ok(NatsSink::connect_with_queue(&url.parse()?, options.queue)
            .await?
            .boxed());
    }
    open_local(url, options)
}

/// The options of a sink. Each applies to some sinks only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkOptions {
    /// The limits of the queue of `sqlite:`, `ndjson:` and `nats:`.
    pub queue: QueueLimits,
    /// The size in bytes of the WAL of `sqlite:` at which further puts are refused.
    pub max_wal_bytes: u64,
    /// Whether the structure of the whole store of `sqlite:` is checked before it is used.
    pub verify_store: bool,
}

impl Default for SinkOptions {
    fn default() -> Self {
        Self {
            queue: QueueLimits::default(),
            max_wal_bytes: DEFAULT_MAX_WAL_BYTES,
            verify_store: false,
        }
    }
}

/// Opens a sink that needs no network connection for that.
fn open_local(url: &str, options: SinkOptions) -> Result<BoxSink, Error> {
    let queue = options.queue;
    let fail = |reason: String| Error::SinkUrl {
        url: without_login(url),
        reason,
    };
    let path_in = |scheme, path| path_of_url(scheme, path).map_err(&fail);
    match url.split_once(':') {
        Some(("sqlite", path)) => {
            Ok(SqliteSink::open_with(path_in("sqlite", path)?, options)?.boxed())
        }
        Some(("ndjson", "-")) => Ok(NdjsonSink::stdout_with_queue(queue)?.boxed()),
        Some(("ndjson", path)) => {
            Ok(NdjsonSink::append_with_queue(path_in("ndjson", path)?, queue)?.boxed())
        }
        Some(("memory", "")) => Ok(MemorySink::new(MEMORY_SINK_BYTES).boxed()),
        Some(("discard", "")) => Ok(DiscardSink.boxed()),
        Some(("http" | "https", _)) => Ok(HttpSink::new(url)?.boxed()),
        #[cfg(not(feature = "nats"))]
        Some(("nats", _)) => Err(fail(
            "this program was built without the feature `nats`".to_owned(),
        )),
        _ => Err(fail(format!("sinks are {URL_FORMS}"))),
    }
}

/// The URL of a sink for the log: with the absolute path of a file, and without a password.
#[must_use]
pub fn describe_url(url: &str) -> String {
    match url.split_once(':') {
        Some(("ndjson", "-")) => url.to_owned(),
        Some((scheme @ ("sqlite" | "ndjson"), path)) => match path::absolute(path) {
            Ok(path) => format!("{scheme}:{}", path.display()),
            Err(_) => url.to_owned(),
        },
        // A parameter that is sent to the peer may be a secret.
        Some(("http" | "https", _)) => http::without_secrets(url),
        _ => without_login(url),
    }
}

#[cfg(test)]
mod tests {
    use super::{SinkOptions, open_local};

    #[test]
    fn error_does_not_contain_password() {
        for scheme in ["NATS:", " nats:", "tls:", "natss:", "x:", ""] {
            let url = format!("{scheme}//u:secret@a/e");
            let error = open_local(&url, SinkOptions::default()).expect_err(&url);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn open_future_is_send() {
        fn assert_send<T: Send>(_: T) {}
        assert_send(super::open("discard:"));
    }
}
