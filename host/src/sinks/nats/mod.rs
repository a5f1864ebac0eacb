//! A stream of NATS JetStream as a store: for peers whose events no longer fit one machine.
//!
//! An event is one message of the stream:
//!
//! | part | content |
//! | --- | --- |
//! | subject | `SUBJECT.KEY`; in the key, ASCII letters, digits, `-`, `_` and `:` stand for themselves, and every other byte is percent-encoded |
//! | payload | the JSON text as it was sent |
//! | header `Alldata-Digest` | [`digest`](crate::store::digest) of key and event, in lower-case hexadecimal |
//!
//! The stream stores one message for each subject, and acknowledges it only when a quorum of its replicas has it: NATS
//! itself enforces write-once, for any number of peers. An existing stream is never changed, and nothing is deleted.

mod credentials;
mod parameters;
mod subject;
mod url;

mod error;
mod identity;
mod message;
mod outcome;
mod retry;
mod settings;
mod version;

mod auth;
mod client_options;
mod connection;
mod server_check;

mod check;
mod connect;
mod stream;

mod conflict;
mod failure;
mod finding;
mod follow;
mod health;
mod in_flight;
mod pipeline;
mod quota;
mod sink;
mod watcher;

mod compare;
mod differences;
mod messages;
mod reader;
mod replicas;
mod state;

pub use reader::NatsReader;
pub use replicas::Replicas;
pub use sink::NatsSink;
pub use url::{DEFAULT_REPLICAS, DEFAULT_SUBJECT, NatsUrl};
