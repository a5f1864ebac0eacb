//! The sinks that come with the crate, one file each, and the URLs that name them.

mod comparison;
mod discard;
mod http;
mod memory;
mod ndjson;
mod sqlite;

use std::path::Path;

pub use discard::DiscardSink;
pub use http::{HttpPutError, HttpSink};
pub use memory::{MEMORY_SINK_BYTES, MemorySink};
pub use ndjson::NdjsonSink;
pub use sqlite::SqliteSink;

use crate::error::Error;
pub use crate::group_commit::{
    DEFAULT_MAX_QUEUED_BYTES, DEFAULT_MAX_QUEUED_PUTS, MAX_QUEUED_PUTS, QueueLimits,
};
use crate::sink::{BoxSink, PutSink as _};

/// What the URLs of sinks look like, for messages.
pub const URL_FORMS: &str = "sqlite:PATH, memory:, ndjson:PATH, ndjson:- (standard output), http://HOST:PORT/PATH or discard:";

/// Opens the sink that a URL names; see [`URL_FORMS`].
///
/// # Errors
///
/// When the URL is of no such form, or what it names can't be opened.
pub fn open(url: &str) -> Result<BoxSink, Error> {
    open_with_queue(url, QueueLimits::default())
}

/// The same with other limits of what may wait for a write, where the sink has a queue for that:
/// `sqlite:` and `ndjson:`.
///
/// # Errors
///
/// As for [`open`].
pub fn open_with_queue(url: &str, queue: QueueLimits) -> Result<BoxSink, Error> {
    let fail = |reason: String| Error::SinkUrl {
        url: url.to_owned(),
        reason,
    };
    let no_path = || fail("the path is missing".to_owned());
    match url.split_once(':') {
        Some(("sqlite" | "ndjson", "")) => Err(no_path()),
        Some(("sqlite", path)) => Ok(SqliteSink::open_with_queue(Path::new(path), queue)?.boxed()),
        Some(("ndjson", "-")) => Ok(NdjsonSink::stdout_with_queue(queue)?.boxed()),
        Some(("ndjson", path)) => {
            Ok(NdjsonSink::append_with_queue(Path::new(path), queue)?.boxed())
        }
        Some(("memory", "")) => Ok(MemorySink::new(MEMORY_SINK_BYTES).boxed()),
        Some(("discard", "")) => Ok(DiscardSink.boxed()),
        Some(("http", _)) => Ok(HttpSink::new(url)?.boxed()),
        _ => Err(fail(format!("sinks are {URL_FORMS}"))),
    }
}
