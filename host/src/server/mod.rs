//! From sockets to responses: the builder, the listeners, the connections, and each request on them.

mod admission;
mod assemble;
mod builder;
mod peer_server;
mod sink_source;

mod monitor;

mod bind;
mod listen_address;
mod listener;
mod shutdown;
mod stream;
#[cfg(unix)]
mod unix_socket;

mod transport;

mod forwarded;
mod preamble;
mod proxy_protocol;
mod trusted_proxies;

#[cfg(feature = "tls")]
mod prefixed_io;
#[cfg(feature = "tls")]
mod tls_acceptor;

mod connection;
mod connection_limiter;
mod connection_state;
mod connection_waker;
mod framing_fields;
mod http_io;
mod instrumented_io;
mod message_part;
mod message_scanner;
mod open_connections;
mod parse_error;

pub(crate) mod auth;

mod access_log;
mod context;
mod reload_source;
mod reloader;
mod watched_source;

mod access_entry;
mod exchange;
mod put;
mod put_service;
mod service;

mod framing;
mod present_fields;

mod body;
mod body_quota;
mod body_reader;
mod frame_coalescer;
mod request_body;

mod detach_on_drop;
mod problem_id;
mod refusal_log;
mod response;
mod spans;
mod wasi_http;

pub use access_log::AccessLog;
#[cfg(feature = "admin")]
pub(crate) use access_log::LineCounts;
pub use builder::{DEFAULT_PORT, PeerServerBuilder};
#[cfg(feature = "admin")]
pub(crate) use context::ServerContext;
pub use listen_address::{ListenAddress, LocalAddress};
pub use listener::PeerListener;
#[cfg(feature = "admin")]
pub(crate) use monitor::Observed;
pub use monitor::{Health, Monitor, NotReady};
pub use peer_server::PeerServer;
pub use put_service::{ClientAddress, PutService, ResponseBody};
pub use reloader::Reloaded;
pub use trusted_proxies::{ForwardedField, TrustedProxies, TrustedProxy};
