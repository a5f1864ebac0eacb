//! An HTTP server for AllData peers: takes `_put`s and hands key and event to a sink.
//!
//! Requests are decoded by a WebAssembly component, which runs in this process. A put that was
//! answered with 201 has been acknowledged by the sink.
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
//! The library starts no runtime, installs no signal handler, reads no environment and prints
//! nothing: it says what it has to say through [`tracing`].

mod server;

mod component;

pub mod sinks;

#[cfg(feature = "nats")]
pub mod nats;
pub mod store;

pub mod sink;

mod util;

mod error;
mod event;
mod limits;

pub use component::{BUILT_IN_COMPONENT, precompile};
#[cfg(feature = "nats")]
pub use error::NatsError;
pub use error::{Error, SqliteError};
pub use limits::Limits;
pub use server::{DEFAULT_PORT, PeerServer, PeerServerBuilder};
pub use sink::{PutError, PutSink};
