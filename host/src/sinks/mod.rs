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

#[cfg(feature = "nats")]
pub(crate) use comparison::{Comparison, LARGE_BYTES};

use crate::error::Error;
pub use crate::group_commit::{
    DEFAULT_MAX_QUEUED_BYTES, DEFAULT_MAX_QUEUED_PUTS, MAX_QUEUED_PUTS, QueueLimits,
};
#[cfg(feature = "nats")]
pub use crate::nats::NatsSink;
#[cfg(feature = "nats")]
use crate::nats::NatsUrl;
use crate::sink::{BoxSink, PutSink as _};

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
    #[cfg(feature = "nats")]
    if NatsUrl::is_one(url) {
        return Ok(NatsSink::connect_with_queue(&url.parse()?, queue)
            .await?
            .boxed());
    }
    open_here(url, queue)
}

/// Opens a sink that needs nobody's answer for that.
fn open_here(url: &str, queue: QueueLimits) -> Result<BoxSink, Error> {
    let fail = |reason: String| Error::SinkUrl {
        url: without_login(url),
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
        #[cfg(not(feature = "nats"))]
        Some(("nats", _)) => Err(fail("this was built without the feature `nats`".to_owned())),
        _ => Err(fail(format!("sinks are {URL_FORMS}"))),
    }
}

/// A URL without what lets one in, however wrong it is.
pub(crate) fn without_login(url: &str) -> String {
    let (scheme, rest) = url.split_once("//").unwrap_or(("", url));
    match rest.rsplit_once('@') {
        Some((_, rest)) => format!("{scheme}//{rest}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{QueueLimits, open_here};

    #[test]
    fn no_message_has_a_password_in_it() {
        for scheme in ["NATS:", " nats:", "tls:", "natss:", "x:", ""] {
            let url = format!("{scheme}//u:secret@a/e");
            let error = open_here(&url, QueueLimits::default()).expect_err(&url);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
