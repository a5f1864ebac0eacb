//! The sinks that come with the crate, one file each, and the URLs that name them.

mod discard;
mod http;
mod memory;
mod ndjson;
mod sqlite;

use std::path::Path;

pub use discard::DiscardSink;
pub use http::HttpSink;
pub use memory::{MEMORY_SINK_BYTES, MemorySink};
pub use ndjson::NdjsonSink;
pub use sqlite::SqliteSink;

use crate::error::Error;
use crate::sink::BoxSink;

/// What the URLs of sinks look like, for messages.
pub const URL_FORMS: &str = "sqlite:PATH, memory:, ndjson:PATH, ndjson:- (standard output), http://HOST:PORT/PATH or discard:";

/// Opens the sink that a URL names; see [`URL_FORMS`].
///
/// # Errors
///
/// When the URL is of no such form, or what it names can't be opened.
pub fn open(url: &str) -> Result<BoxSink, Error> {
    let fail = |reason: String| Error::SinkUrl {
        url: url.to_owned(),
        reason,
    };
    let no_path = || fail("the path is missing".to_owned());
    match url.split_once(':') {
        Some(("sqlite" | "ndjson", "")) => Err(no_path()),
        Some(("sqlite", path)) => Ok(BoxSink::new(SqliteSink::open(Path::new(path))?)),
        Some(("ndjson", "-")) => Ok(BoxSink::new(NdjsonSink::stdout()?)),
        Some(("ndjson", path)) => Ok(BoxSink::new(NdjsonSink::append(Path::new(path))?)),
        Some(("memory", "")) => Ok(BoxSink::new(MemorySink::new(MEMORY_SINK_BYTES))),
        Some(("discard", "")) => Ok(BoxSink::new(DiscardSink)),
        Some(("http", _)) => Ok(BoxSink::new(HttpSink::new(url)?)),
        _ => Err(fail(format!("sinks are {URL_FORMS}"))),
    }
}
