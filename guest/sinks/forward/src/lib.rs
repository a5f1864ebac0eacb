//! A sink component that puts to other AllData peers, over `wasi:http/outgoing-handler`.
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
mod http;

use alloc::format;
use alloc::string::String;

use alldata_peer_protocol::client::PeerError;
use alldata_peer_sink_common::log;

use configuration::Configuration;

mod bindings {
    #![expect(unsafe_code, reason = "the code generated for an export is unsafe")]

    use crate::Forward;

    wit_bindgen::generate!({ path: "../../../wit", world: "sink" });
    export!(Forward);
}

use bindings::exports::alldata::peer::put_sink::{Guest, PutError};

/// The name of the sink in its log.
const NAME: &str = "forward";

struct Forward;

impl Guest for Forward {
    fn put(key: String, event: String) -> Result<(), PutError> {
        let configuration = Configuration::read().map_err(|reason| {
            log::write(NAME, &reason);
            PutError::Failed(reason)
        })?;
        let result = failover::put_to_first(&configuration.peers, |peer| {
            http::put(peer, &configuration, &key, &event).map_err(|failure| {
                if let Some(reason) = failure.reason {
                    log::write(NAME, &format!("{}: {reason}", peer.name));
                }
                failure.error
            })
        });
        result.map_err(PutError::from)
    }
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
