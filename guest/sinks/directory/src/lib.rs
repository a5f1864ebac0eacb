//! A sink component that keeps each event in a file of its own, over `wasi:filesystem`.
//!
//! `ALLDATA_PEER_DIRECTORY` names the directory as the component sees it: one that the platform
//! has opened for it, or one below.
//!
//! A put is answered with 201 or 409 once its file and the directories above are synced. Files are only
//! ever added, by a hard link, so that exactly one of two concurrent puts wins, and no partial file is
//! ever visible. The temporary file of an interrupted put stays in the directory `tmp`.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod event_path;
mod preopens;
mod store;

use alloc::string::String;

use alldata_peer_sink_common::log;

use event_path::EventPath;
use store::PutFailure;

mod bindings {
    #![expect(unsafe_code, reason = "the code generated for an export is unsafe")]

    use crate::Directory;

    #[cfg(not(feature = "wasi-0-3"))]
    wit_bindgen::generate!({ path: "../../../wit", world: "sink" });
    #[cfg(feature = "wasi-0-3")]
    wit_bindgen_async::generate!({
        path: "../../../wit/wasi-0.3",
        world: "sink",
        runtime_path: "wit_bindgen_async::rt",
    });
    export!(Directory);
}

use bindings::exports::alldata::peer::put_sink::{Guest, PutError};

/// The name of the sink in its log.
const NAME: &str = "directory";

/// After how many seconds to retry a put that found the disk full: an operator has to free space.
const FULL_RETRY_SECONDS: u32 = 60;

struct Directory;

#[cfg(not(feature = "wasi-0-3"))]
impl Guest for Directory {
    fn put(key: String, event: String) -> Result<(), PutError> {
        put(&key, &event)
    }
}

/// The functions of `wasi:filesystem` 0.2 block: puts of one instance come one after the other.
#[cfg(feature = "wasi-0-3")]
impl Guest for Directory {
    async fn put(key: String, event: String) -> Result<(), PutError> {
        put(&key, &event)
    }
}

fn put(key: &str, event: &str) -> Result<(), PutError> {
    let put = preopens::open_root().and_then(|root| store::put(&root, &EventPath::of(key), event));
    put.map_err(|failure| match failure {
        PutFailure::Conflict => PutError::Conflict,
        PutFailure::Full(reason) => {
            log::write(NAME, &reason);
            PutError::Unavailable(FULL_RETRY_SECONDS)
        }
        PutFailure::NotSynced(reason) => {
            log::write(NAME, &reason);
            PutError::Unknown
        }
        PutFailure::Broken(reason) => {
            log::write(NAME, &reason);
            PutError::Failed(reason)
        }
    })
}
