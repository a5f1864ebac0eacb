//! A sink component that keeps events in a key-value store of wasmCloud
//! (`wasi:keyvalue@0.2.0-draft`).
//!
//! `ALLDATA_PEER_KEYVALUE_BUCKET` names the bucket, `default` unless given.
//!
//! This interface has no way to create a value only where there is none. A put looks whether the
//! key is free, sets the event, and looks again; so a different event that is there is never
//! overwritten knowingly. Two different events that are put under one key at the same moment can
//! both be acknowledged, though, and the store keeps the later one. Where that matters, use the
//! sink `directory` on a volume, which wasmCloud runs too: it is write-once whatever happens.
//!
//! The interface promises nothing about what outlasts a loss of power: that is up to the store.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::format;
use alloc::string::String;

use alldata_peer_sink_common::held::is_same;
use alldata_peer_sink_common::{keyvalue, log};

mod bindings {
    #![expect(unsafe_code, reason = "what is generated for an export is unsafe")]

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
        if let Some(answer) = compare(&bucket, &name, &event)? {
            return answer;
        }
        bucket
            .set(&name, event.as_bytes())
            .map_err(|error| failed(&error))?;
        let answer = compare(&bucket, &name, &event)?;
        answer.unwrap_or(Err(PutError::Unknown))
    }
}

/// What the store holds, as the answer to a put; `None` where it holds nothing.
fn compare(
    bucket: &Bucket,
    name: &str,
    event: &str,
) -> Result<Option<Result<(), PutError>>, PutError> {
    let held = bucket.get(name).map_err(|error| failed(&error))?;
    Ok(held.map(|held| match is_same(&held, event) {
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
