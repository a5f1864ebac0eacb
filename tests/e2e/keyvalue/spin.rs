//! `wasi:keyvalue` of Spin, on the buckets of a test, which are in `memory`.

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource};

use super::State;
use super::memory::{Memory, StoreError, SwapError, Watch};
use super::store_host::implement_store;

mod bindings {
    wasmtime::component::bindgen!({
        path: ["../wit", "../guest/sinks/keyvalue-spin/wit"],
        world: "alldata:sink-keyvalue-spin/sink",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": super::Bucket,
            "wasi:keyvalue/atomics.cas": crate::keyvalue::memory::Watch,
        },
    });
}

use bindings::wasi::keyvalue::atomics::{self, CasError};
use bindings::wasi::keyvalue::store::{self, Error};

/// The bucket of the test, opened.
#[expect(unreachable_pub, reason = "what is generated exports it")]
pub struct Bucket;

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    store::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    atomics::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

implement_store!();

impl atomics::Host for State {
    async fn increment(
        &mut self,
        _: Resource<Bucket>,
        name: String,
        delta: i64,
    ) -> Result<Result<i64, Error>> {
        let increase = |memory: &mut Memory| memory.increment(&name, delta);
        let increased = self.caller.call("increment", increase);
        Ok(increased.await?.map_err(Error::from))
    }

    async fn swap(&mut self, cas: Resource<Watch>, bytes: Vec<u8>) -> Result<Result<(), CasError>> {
        let watch = self.table.delete(cas)?;
        let swap = |memory: &mut Memory| memory.swap(&watch, bytes);
        match self.caller.call("swap", swap).await? {
            Ok(()) => Ok(Ok(())),
            Err(SwapError::Store(error)) => Ok(Err(CasError::StoreError(error.into()))),
            Err(SwapError::CasFailed) => Ok(Err(CasError::CasFailed(self.table.push(watch)?))),
        }
    }
}

impl atomics::HostCas for State {
    async fn new(
        &mut self,
        _: Resource<Bucket>,
        name: String,
    ) -> Result<Result<Resource<Watch>, Error>> {
        let new = |_: &mut Memory| Ok::<_, StoreError>(());
        match self.caller.call_at_once("new", new)? {
            Ok(()) => Ok(Ok(self.table.push(Watch::new(name))?)),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn current(&mut self, cas: Resource<Watch>) -> Result<Result<Option<Vec<u8>>, Error>> {
        let watch = self.table.get_mut(&cas)?;
        let current = self.caller.call("current", |memory| memory.watch(watch));
        Ok(current.await?.map_err(Error::from))
    }

    async fn drop(&mut self, cas: Resource<Watch>) -> Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}
