//! A sink component that keeps each event in a file of its own, over `wasi:filesystem`.
//!
//! `ALLDATA_PEER_DIRECTORY` names the directory as the component sees it: one that the platform
//! has opened for it, or one below.
//!
//! An event is acknowledged, or refused because another is there, once its file and the directories above are synced. Files are only
//! ever added, by a hard link, so that of two puts that race exactly one wins, and a file is
//! never seen half written. What a put that was cut off left behind stays in the directory `tmp`.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod place;
mod root;
mod store;

use alloc::string::String;

use alldata_peer_sink_common::log;

use place::Place;
use store::Failure;

mod bindings {
    #![expect(unsafe_code, reason = "what is generated for an export is unsafe")]

    use crate::Directory;

    wit_bindgen::generate!({ path: "../../../wit", world: "sink" });
    export!(Directory);
}

use bindings::exports::alldata::peer::put_sink::{Guest, PutError};

/// The name of the sink in its log.
const NAME: &str = "directory";

/// After how many seconds to try a put again that found no room: an operator has to make some.
const FULL_RETRY_SECONDS: u32 = 60;

struct Directory;

impl Guest for Directory {
    fn put(key: String, event: String) -> Result<(), PutError> {
        let put = root::open().and_then(|root| store::put(&root, &Place::of(&key), &event));
        put.map_err(|failure| match failure {
            Failure::Conflict => PutError::Conflict,
            Failure::Full(reason) => {
                log::write(NAME, &reason);
                PutError::Unavailable(FULL_RETRY_SECONDS)
            }
            Failure::NotSynced(reason) => {
                log::write(NAME, &reason);
                PutError::Unknown
            }
            Failure::Broken(reason) => {
                log::write(NAME, &reason);
                PutError::Failed(reason)
            }
        })
    }
}
