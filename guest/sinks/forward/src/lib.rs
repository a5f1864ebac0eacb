//! A sink component that puts to other AllData peers, over `wasi:http/outgoing-handler`.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `ALLDATA_PEER_FORWARD_URL` | `http:` or `https:` URLs of peers, separated by commas; tried in this order |
//! | `ALLDATA_PEER_FORWARD_TIMEOUT_MS` | milliseconds that one peer may take, 10000 unless given |
//! | `ALLDATA_PEER_FORWARD_TOKEN` | a bearer token (RFC 6750) to send along |
//!
//! A peer that acknowledges the event, holds a different one or refuses it for good has the last
//! word; otherwise the next one is tried. Keeps nothing, and never says that an event is not
//! stored unless every peer says so. What a gateway in front of a peer answers is taken for the
//! peer's word.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod configuration;
mod exchange;
mod order;

use alloc::format;
use alloc::string::String;

use alldata_peer_protocol::client::Refusal;
use alldata_peer_sink_common::log;

use configuration::Configuration;

mod bindings {
    #![expect(unsafe_code, reason = "what is generated for an export is unsafe")]

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
        let answer = order::first_answer(&configuration.peers, |peer| {
            exchange::put(peer, &configuration, &key, &event).map_err(|no_answer| {
                if let Some(reason) = no_answer.reason {
                    log::write(NAME, &format!("{}: {reason}", peer.name));
                }
                no_answer.refusal
            })
        });
        answer.map_err(PutError::from)
    }
}

impl From<Refusal> for PutError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Conflict => Self::Conflict,
            Refusal::Rejected(reason) | Refusal::Unfit(reason) => Self::Rejected(reason),
            Refusal::Unavailable {
                retry_after_seconds,
            } => Self::Unavailable(retry_after_seconds),
            Refusal::Unknown => Self::Unknown,
            Refusal::Failed(reason) => Self::Failed(reason),
        }
    }
}
