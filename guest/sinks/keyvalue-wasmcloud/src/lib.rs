//! A sink component that keeps events in a key-value store of wasmCloud
//! (`wasi:keyvalue@0.2.0-draft`).
//!
//! `ALLDATA_PEER_KEYVALUE_BUCKET` names the bucket, `default` unless given.
//!
//! This interface has no way to create a value only if there is none. A put reads the key, sets the
//! event if there is none, and reads it again, so an event that is there is not overwritten. But
//! two different events that are put under one key at the same moment can both be acknowledged, and the
//! store keeps the later one. Where that matters, use the sink `directory` on a volume, which
//! wasmCloud supports too: it is always write-once.
//!
//! The interface promises nothing about a loss of power: durability is that of the store.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::format;
use alloc::string::String;

use alldata_peer_sink_common::compare::is_same;
use alldata_peer_sink_common::{keyvalue, log};

mod bindings {
    #![expect(unsafe_code, reason = "the code generated for an export is unsafe")]

    use crate::Keyvalue;

    wit_bindgen::generate!({
        path: ["../../../wit", "wit"],
        world: "alldata:sink-keyvalue-wasmcloud/sink",
        generate_all,
    });
    export!(Keyvalue);
}

use bindings::exports::alldata::peer::put_sink::{Guest, PutError};
use bindings::wasi::keyvalue::store::{self, Bucket, Error};

/// The name of the sink in its log.
const NAME: &str = "keyvalue-wasmcloud";

struct Keyvalue;

impl Guest for Keyvalue {
    fn put(key: String, event: String) -> Result<(), PutError> {
        let bucket = store::open(&keyvalue::bucket()).map_err(|error| failed(&error))?;
        let name = keyvalue::name("event", &key);
        if let Some(result) = compare(&bucket, &name, &event)? {
            return result;
        }
        bucket
            .set(&name, event.as_bytes())
            .map_err(|error| failed(&error))?;
        let result = compare(&bucket, &name, &event)?;
        result.unwrap_or(Err(PutError::Unknown))
    }
}

/// The result of the put by the event that the store holds; `None` if it holds none.
fn compare(
    bucket: &Bucket,
    name: &str,
    event: &str,
) -> Result<Option<Result<(), PutError>>, PutError> {
    let stored = bucket.get(name).map_err(|error| failed(&error))?;
    Ok(stored.map(|stored| match is_same(&stored, event) {
        true => Ok(()),
        false => Err(PutError::Conflict),
    }))
}

fn failed(error: &Error) -> PutError {
    let bucket = keyvalue::bucket();
    let reason = match error {
        Error::NoSuchStore => format!("there is no bucket {bucket:?}"),
        Error::AccessDenied => format!("the bucket {bucket:?} may not be used"),
        Error::Other(reason) => format!("the bucket {bucket:?} failed: {reason}"),
    };
    log::write(NAME, &reason);
    PutError::Failed(reason)
}
