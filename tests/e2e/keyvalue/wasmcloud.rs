//! `wasi:keyvalue` of wasmCloud, on the buckets of a test, which are in `memory`.

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource};

use super::State;
use super::memory::{Memory, StoreError};
use super::store_host::implement_store;

mod bindings {
    wasmtime::component::bindgen!({
        path: ["../wit", "../guest/sinks/keyvalue-wasmcloud/wit"],
        world: "alldata:sink-keyvalue-wasmcloud/sink",
        imports: { default: async | trappable },
        with: { "wasi:keyvalue/store.bucket": super::Bucket },
    });
}

use bindings::wasi::keyvalue::store::{self, Error};

/// The bucket of the test, opened.
#[expect(unreachable_pub, reason = "what is generated exports it")]
pub struct Bucket;

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    store::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

implement_store!();
