//! A stream of NATS JetStream as a store: for peers whose events no longer fit one machine.
//!
//! An event is one message of the stream:
//!
//! | part | what |
//! | --- | --- |
//! | subject | `SUBJECT.KEY`, where of the key ASCII letters, digits, `-`, `_` and `:` stand for themselves, and every other byte is percent-encoded |
//! | payload | the JSON text as it was sent |
//! | header `Alldata-Digest` | [`digest`](crate::store::digest) of key and event, in lower-case hexadecimal |
//!
//! The stream takes one message of each subject, once and for all, and says so only when a quorum
//! of its replicas has it: so the engine holds that keys are written once, not a check of ours.
//! Never deletes, and never changes a stream that is there.

mod access;
mod compare;
mod connection;
mod differences;
mod follow;
mod health;
mod identity;
mod message;
mod patience;
mod pipeline;
mod prepare;
mod reader;
mod replicas;
mod reply;
mod room;
mod settings;
mod sink;
mod subject;
mod url;
mod version;
mod watch;
mod way;

pub use reader::NatsReader;
pub use replicas::Replicas;
pub use sink::NatsSink;
pub use url::{DEFAULT_REPLICAS, DEFAULT_SUBJECT, NatsUrl};

use crate::error::{Error, NatsError};

/// Makes an [`Error`] of whatever kept something from being done with a stream.
fn nats_error(
    url: &NatsUrl,
    operation: &'static str,
) -> impl Fn(&dyn std::fmt::Display) -> Error + use<> {
    let stream = url.to_string();
    move |reason| Error::Nats {
        operation,
        stream: stream.clone(),
        source: NatsError(reason.to_string()),
    }
}
