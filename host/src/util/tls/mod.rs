//! TLS by rustls: certificates and keys from files, and the settings of both ends of a connection. Sockets are
//! those of the caller.

mod certificate;
pub(crate) mod client;
mod client_names;
mod config;
pub(crate) mod pem;

pub use config::{TlsConfig, TlsFiles};
