//! A sink component that puts to other AllData peers, over `wasi:http`: the `outgoing-handler` of WASI 0.2, or
//! with the feature `wasi-0-3` the `client` of WASI 0.3.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `ALLDATA_PEER_FORWARD_URL` | `http:` or `https:` URLs of peers, separated by commas; tried in this order |
//! | `ALLDATA_PEER_FORWARD_TIMEOUT_MS` | milliseconds that one peer may take, 10000 unless given |
//! | `ALLDATA_PEER_FORWARD_TOKEN` | a bearer token (RFC 6750) to send along |
//!
//! The response of a peer that acknowledges the event (201), holds a different one (409) or refuses it for good
//! (422) is final; otherwise the next peer is tried. The sink keeps nothing, and reports an event as not stored only if
//! every peer says so. The response of a gateway in front of a peer counts as the peer's.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod configuration;
mod failover;
mod failure;
#[cfg_attr(feature = "wasi-0-3", path = "http_wasi_0_3.rs")]
mod http;

use alloc::format;
use alloc::string::String;

use alldata_peer_protocol::client::PeerError;
use alldata_peer_sink_common::log;
#[cfg(not(feature = "wasi-0-3"))]
use futures_util::FutureExt as _;

use configuration::{Configuration, Peer};

mod bindings {
    #![expect(unsafe_code, reason = "the code generated for an export is unsafe")]

    use crate::Forward;

    #[cfg(not(feature = "wasi-0-3"))]
    wit_bindgen::generate!({ path: "../../../wit", world: "sink" });
    #[cfg(feature = "wasi-0-3")]
    wasip3::wit_bindgen::generate!({
        path: "../../../wit/wasi-0.3",
        world: "sink",
        runtime_path: "wasip3::wit_bindgen::rt",
    });
    export!(Forward);
}

use bindings::exports::alldata::peer::put_sink::{Guest, PutError};

/// The name of the sink in its log.
const NAME: &str = "forward";

struct Forward;

#[cfg(not(feature = "wasi-0-3"))]
impl Guest for Forward {
    fn put(key: String, event: String) -> Result<(), PutError> {
        let result = put(&key, &event).now_or_never();
        result.expect("the functions of WASI 0.2 block, so there is nothing to wait for")
    }
}

#[cfg(feature = "wasi-0-3")]
impl Guest for Forward {
    async fn put(key: String, event: String) -> Result<(), PutError> {
        put(&key, &event).await
    }
}

async fn put(key: &str, event: &str) -> Result<(), PutError> {
    let configuration = Configuration::read().map_err(|reason| {
        log::write(NAME, &reason);
        PutError::Failed(reason)
    })?;
    let put = async |peer: &Peer| {
        let put = http::put(peer, &configuration, key, event).await;
        put.map_err(|failure| {
            if let Some(reason) = failure.reason {
                log::write(NAME, &format!("{}: {reason}", peer.name));
            }
            failure.error
        })
    };
    let result = failover::put_to_first(&configuration.peers, put).await;
    result.map_err(PutError::from)
}

impl From<PeerError> for PutError {
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::Conflict => Self::Conflict,
            PeerError::Rejected(reason) | PeerError::NotAccepted(reason) => Self::Rejected(reason),
            PeerError::Unavailable {
                retry_after_seconds,
            } => Self::Unavailable(retry_after_seconds),
            PeerError::Unknown => Self::Unknown,
            PeerError::Failed(reason) => Self::Failed(reason),
        }
    }
}
