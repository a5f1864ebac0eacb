//! An HTTP server for AllData peers: receives `_put` requests and passes key and event to a sink.
//!
//! Requests are decoded by a WebAssembly component, which runs in this process. The response 201 means that
//! the sink has acknowledged the put.
//!
//! ```
//! use alldata_peer_server_http::PeerServer;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = PeerServer::builder()
//!     .hostname("127.0.0.1")
//!     .port(0)
//!     .on_put(|key, event| async move {
//!         println!("{key}: {event}");
//!         Ok(())
//!     })
//!     .listen()
//!     .await?;
//! println!("listening on http://{}", server.local_addr());
//! server.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! Features that are on by default: `cli` (the program `alldata-peer`; turn it off to embed), `nats` (the sink `nats:`),
//! `admin` (a listener for operators, and metrics) and `tls`. `otlp` is off: spans with the fields of OpenTelemetry, and their
//! export by the program.
//!
//! The library starts no runtime, installs no signal handler, reads no environment variable (but `SSL_CERT_FILE`
//! and `SSL_CERT_DIR`, for `https:` URLs without `ca`) and prints nothing. It logs through [`tracing`].

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "admin")]
pub mod admin;

mod server;

mod component;

pub mod sinks;

pub mod store;

pub mod sink;

#[cfg_attr(
    not(feature = "admin"),
    expect(dead_code, reason = "without the feature, no code reads the numbers")
)]
mod metrics;

mod util;

mod error;
mod limits;

pub use component::{BUILT_IN_COMPONENT, CompiledComponent, precompile};
#[cfg(feature = "nats")]
pub use error::NatsError;
pub use error::{Error, SqliteError};
pub use limits::Limits;
pub use server::auth::{Authorizer, MIN_TOKEN_BYTES, RequestHead, TokenFile, Unauthorized};
pub use server::{
    AccessLog, ClientAddress, DEFAULT_PORT, ForwardedField, Health, ListenAddress, LocalAddress,
    Monitor, NotReady, PeerListener, PeerServer, PeerServerBuilder, PutService, Reloaded,
    ResponseBody, TrustedProxies, TrustedProxy,
};
pub use sink::{PutError, PutSink};
#[cfg(feature = "tls")]
pub use tokio_rustls::rustls;
pub use util::identity::Identity;
pub use util::request_id::RequestId;
#[cfg(feature = "tls")]
pub use util::tls::{TlsConfig, TlsFiles};
