//! A sink component that keeps events in a key-value store of Spin
//! (`wasi:keyvalue@0.2.0-draft2`).
//!
//! `ALLDATA_PEER_KEYVALUE_BUCKET` names the store, `default` unless given.
//!
//! No function of this interface creates a value only if there is none: a swap of an absent value overwrites
//! one that was set meanwhile, at least in Spin's own store. A swap of a value that exists is
//! atomic, though. So a put first claims its key: it swaps eight zero bytes under a second name for
//! a fingerprint of its event. Then it sets the event. Of concurrent puts one has the claim. A put
//! that was interrupted in between is completed by the next one of the same text; until then other
//! events for the key, and other spellings of this one, are answered with 503.
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
        world: "alldata:sink-keyvalue-spin/sink",
        generate_all,
    });
    export!(Keyvalue);
}

use bindings::exports::alldata::peer::put_sink::{Guest, PutError};
use bindings::wasi::keyvalue::atomics::{Cas, CasError, increment, swap};
use bindings::wasi::keyvalue::store::{self, Bucket, Error};

/// The name of the sink in its log.
const NAME: &str = "keyvalue-spin";

/// After how many seconds to try again where another put has the claim.
const CLAIMED_RETRY_SECONDS: u32 = 1;

/// The most bytes of an event, which Spin documents for a value. A larger one would claim its key
/// and never be set.
const MAX_EVENT_BYTES: usize = 1_000_000;

/// A claim that no put has: a counter that was increased by zero, as stores of bytes and stores of digits
/// write it.
const UNCLAIMED: [&[u8]; 2] = [&[0; 8], b"0"];

/// Eight bytes, the length of a counter: a value of another length cannot be increased.
type Fingerprint = [u8; 8];

struct Keyvalue;

impl Guest for Keyvalue {
    fn put(key: String, event: String) -> Result<(), PutError> {
        if event.len() > MAX_EVENT_BYTES {
            let reason = format!("The event has more than {MAX_EVENT_BYTES} bytes, the limit.");
            return Err(PutError::Rejected(reason));
        }
        let bucket = store::open(&keyvalue::bucket()).map_err(|error| failed(&error))?;
        let name = keyvalue::name("event", &key);
        if let Some(result) = compare(&bucket, &name, &event)? {
            return result;
        }
        if !claim(&bucket, &keyvalue::name("claim", &key), fingerprint(&event))? {
            // The put with the claim may have set its event by now.
            let result = compare(&bucket, &name, &event)?;
            return result.unwrap_or(Err(PutError::Unavailable(CLAIMED_RETRY_SECONDS)));
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

/// Claims a key for the event of a fingerprint. `false` where another event has the claim.
fn claim(bucket: &Bucket, name: &str, fingerprint: Fingerprint) -> Result<bool, PutError> {
    let error = |error: Error| failed(&error);
    let read = || bucket.get(name).map_err(error);
    if read()?.is_none()
        && let Err(error) = increment(bucket, name, 0)
        // A store of digits cannot increase the fingerprint of another put.
        && read()?.is_none()
    {
        return Err(failed(&error));
    }
    let cas = Cas::new(bucket, name).map_err(error)?;
    let claim = cas.current().map_err(error)?.unwrap_or_default();
    if !UNCLAIMED.contains(&&*claim) {
        return Ok(claim == fingerprint);
    }
    match swap(cas, &fingerprint) {
        // Some stores report a failure for a swap that they made, so the claim is read.
        Ok(()) | Err(CasError::CasFailed(_)) => Ok(read()?.unwrap_or_default() == fingerprint),
        Err(CasError::StoreError(error)) => Err(failed(&error)),
    }
}

fn fingerprint(event: &str) -> Fingerprint {
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(&blake3::hash(event.as_bytes()).as_bytes()[..8]);
    // Zeros mean that no put has the claim.
    fingerprint[0] |= 1;
    fingerprint
}

fn failed(error: &Error) -> PutError {
    let bucket = keyvalue::bucket();
    let reason = match error {
        Error::NoSuchStore => format!("there is no store {bucket:?}"),
        Error::AccessDenied => format!("the store {bucket:?} may not be used"),
        Error::Other(reason) => format!("the store {bucket:?} failed: {reason}"),
    };
    log::write(NAME, &reason);
    PutError::Failed(reason)
}
