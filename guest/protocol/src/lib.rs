//! The wire protocol of AllData peers: plain `no_std` code over bytes, without I/O.
//!
//! [`decode`] reads the body of a `_put`, which [`body`] collects, and [`outcome`] has the response to every outcome of a request.
//! [`content_coding`] reads `Content-Encoding`. [`client`] is the other side of the protocol. [`same_event`] compares
//! two events. The component, the host, the sinks, the fuzzers and the benchmarks all use this code.
//!
//! Nothing here keeps state between two requests.
//!
//! ```
//! use alldata_peer_protocol::decode::decode;
//!
//! # fn main() -> Result<(), alldata_peer_protocol::decode::DecodeError> {
//! let put = decode(br#"{"key":"k", "event": [1, 2.50]}"#)?;
//! assert_eq!((&*put.key, put.event), ("k", "[1, 2.50]"));
//! # Ok(())
//! # }
//! ```

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

pub mod body;
pub mod content_coding;
pub mod decode;
mod json_string;
mod members;
pub mod outcome;
mod skip;
mod vector;

pub mod client;

mod canonical;
mod number;
pub mod same_event;
