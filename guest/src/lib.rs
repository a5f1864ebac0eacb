//! The AllData peer as a WebAssembly component, and the wire protocol it speaks.
//!
//! [`content_coding`] looks at its fields, [`body`] gathers the body of a `_put`, [`decode`] reads it, and [`outcome`] tells how a request
//! ended and what is answered for it. [`client`] is the other side of the protocol, and
//! `same_event` tells whether two events are the same: both are for sinks. All are plain code over
//! bytes: the host, the sinks and the tests use them natively. Only `component` knows WASI, and it
//! is all that the built component adds.
//!
//! Nothing here keeps state between two requests.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

pub mod body;
#[cfg(feature = "same-event")]
mod canonical;
pub mod client;
pub mod content_coding;
pub mod decode;
mod json_string;
#[cfg(feature = "same-event")]
mod number;
pub mod outcome;
#[cfg(feature = "same-event")]
pub mod same_event;

#[cfg(feature = "component")]
mod component;
#[cfg(target_arch = "wasm32")]
mod freestanding;
