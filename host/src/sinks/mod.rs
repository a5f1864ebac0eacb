//! The sinks that come with the crate, one file each, and the URLs that name them.

mod append_file;
mod discard;
mod http;
mod memory;
mod ndjson;
mod open_append;
mod sqlite;

use std::path;

pub use discard::DiscardSink;
pub use http::{HttpPutError, HttpSink};
pub use memory::{MEMORY_SINK_BYTES, MemorySink};
pub use ndjson::NdjsonSink;
pub use sqlite::SqliteSink;

use crate::error::Error;
#[cfg(feature = "nats")]
pub use crate::nats::NatsSink;
#[cfg(feature = "nats")]
use crate::nats::NatsUrl;
pub use crate::sink::group_commit::{
    DEFAULT_MAX_QUEUED_BYTES, DEFAULT_MAX_QUEUED_PUTS, MAX_QUEUED_PUTS, QueueLimits,
};
use crate::sink::{BoxSink, PutSink as _};
use crate::store::{DEFAULT_MAX_WAL_BYTES, path_of_url};
use crate::util::redaction::without_login;

/// What the URLs of sinks look like, for messages.
pub const URL_FORMS: &str = "sqlite:PATH, memory:, ndjson:PATH, ndjson:- (standard output), http://HOST:PORT/PATH, nats://HOST:PORT,…/STREAM or discard:";

/// Opens the sink that a URL names; see [`URL_FORMS`]. One that needs a connection or a thread of
/// its own lives on the Tokio runtime that this is awaited in.
///
/// # Errors
///
/// When the URL is of no such form, or what it names can't be opened.
pub async fn open(url: &str) -> Result<BoxSink, Error> {
    open_with_queue(url, QueueLimits::default()).await
}

/// The same with other limits of what may wait for a write, where the sink has a queue for that:
/// `sqlite:`, `ndjson:` and `nats:`.
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

/// The same with other limits, and with a check of a store before it is used.
///
/// # Errors
///
/// As for [`open`], and when the check finds that the store is damaged.
pub async fn open_with(url: &str, options: SinkOptions) -> Result<BoxSink, Error> {
    #[cfg(feature = "nats")]
    if NatsUrl::is_one(url) {
        return Ok(NatsSink::connect_with_queue(&url.parse()?, options.queue)
            .await?
            .boxed());
    }
    open_here(url, options)
}

/// How a sink is opened, as far as it has such a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkOptions {
    /// How much may wait for a write: with `sqlite:`, `ndjson:` and `nats:`.
    pub queue: QueueLimits,
    /// The size in bytes of a store's WAL at which no further put is taken: with `sqlite:`.
    pub max_wal_bytes: u64,
    /// Whether the structure of the whole store is checked before it is used: with `sqlite:`.
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

/// Opens a sink that needs nobody's answer for that.
fn open_here(url: &str, options: SinkOptions) -> Result<BoxSink, Error> {
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
        Some(("http", _)) => Ok(HttpSink::new(url)?.boxed()),
        #[cfg(not(feature = "nats"))]
        Some(("nats", _)) => Err(fail("this was built without the feature `nats`".to_owned())),
        _ => Err(fail(format!("sinks are {URL_FORMS}"))),
    }
}

/// The URL of a sink as it may stand in a log: with the absolute path of a file, and without a password.
#[must_use]
pub fn describe_url(url: &str) -> String {
    match url.split_once(':') {
        Some(("ndjson", "-")) => url.to_owned(),
        Some((scheme @ ("sqlite" | "ndjson"), path)) => match path::absolute(path) {
            Ok(path) => format!("{scheme}:{}", path.display()),
            Err(_) => url.to_owned(),
        },
        _ => without_login(url),
    }
}

#[cfg(test)]
mod tests {
    use super::{SinkOptions, open_here};

    #[test]
    fn no_message_has_a_password_in_it() {
        for scheme in ["NATS:", " nats:", "tls:", "natss:", "x:", ""] {
            let url = format!("{scheme}//u:secret@a/e");
            let error = open_here(&url, SinkOptions::default()).expect_err(&url);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn opening_a_sink_may_be_spawned() {
        fn assert_send<T: Send>(_: T) {}
        assert_send(super::open("discard:"));
    }
}
