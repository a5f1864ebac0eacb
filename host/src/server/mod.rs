//! From sockets to responses: the builder, the listeners, the connections, and each request on them.

pub(crate) mod builder;
mod peer_server;

mod listener;
mod shutdown;

mod connection;
mod connection_limiter;
pub(crate) mod connection_state;
mod http_io;
mod message_scanner;
mod open_connections;
mod parse_error;

mod service;

mod framing;

pub(crate) mod body;
mod body_reader;
mod frame_coalescer;

mod detach_on_drop;
pub(crate) mod refusal_log;
pub(crate) mod response;
mod wasi_http;

pub use builder::{DEFAULT_PORT, PeerServerBuilder};
pub use peer_server::PeerServer;
