//! `wasi:keyvalue` as wasmCloud has it, on the buckets of a test.
//!
//! Never does anything itself: what a store does is in `memory`.

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource};

use super::State;
use super::memory::{Memory, StoreError};

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

impl store::Host for State {
    async fn open(&mut self, bucket: String) -> Result<Result<Resource<Bucket>, Error>> {
        let open = |memory: &mut Memory| memory.open(&bucket);
        match self.caller.call_at_once("open", open)? {
            Ok(()) => Ok(Ok(self.table.push(Bucket)?)),
            Err(error) => Ok(Err(error.into())),
        }
    }
}

impl store::HostBucket for State {
    async fn get(
        &mut self,
        _: Resource<Bucket>,
        name: String,
    ) -> Result<Result<Option<Vec<u8>>, Error>> {
        let held = self.caller.call("get", |memory| memory.get(&name)).await?;
        Ok(held.map_err(Error::from))
    }

    async fn set(
        &mut self,
        _: Resource<Bucket>,
        name: String,
        bytes: Vec<u8>,
    ) -> Result<Result<(), Error>> {
        let set = self.caller.call("set", |memory| memory.set(&name, bytes));
        Ok(set.await?.map_err(Error::from))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchStore => Self::NoSuchStore,
            StoreError::AccessDenied => Self::AccessDenied,
            StoreError::Other(reason) => Self::Other(reason),
        }
    }
}
