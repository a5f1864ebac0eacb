//! What a guest may import: HTTP, `put-sink`, and a WASI that shows it what it was given.
//!
//! What that is stands in `world`; without anything a component that was built with a standard
//! library starts, but sees an empty world. Never calls the guest.

use std::sync::Arc;

use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, ResourceLimiter, Result};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::computing::ComputingTime;
use crate::outgoing::OutgoingRequests;
use crate::put_sink::{self, PutSinkContext};

/// The most bytes of one linear memory: a body of 16 MiB, twice that while its buffer grows, and
/// the rest for the guest itself.
pub(crate) const MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// The most linear memory of one guest, in bytes: of a peer, and of a sink that is composed with
/// it and holds an event of its own, and another one to compare it with.
const ALL_MEMORY_BYTES: usize = 2 * MEMORY_BYTES;

/// What the store of an instance holds.
pub(crate) struct State {
    pub(crate) table: ResourceTable,
    pub(crate) memory: MemoryLimit,
    pub(crate) computing: Arc<ComputingTime>,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outgoing: OutgoingRequests,
    put_sink: PutSinkContext,
}

impl State {
    pub(crate) fn new(wasi: WasiCtx, outgoing: OutgoingRequests, put_sink: PutSinkContext) -> Self {
        Self {
            table: ResourceTable::new(),
            memory: MemoryLimit { bytes: 0 },
            computing: Arc::default(),
            wasi,
            http: WasiHttpCtx::new(),
            outgoing,
            put_sink,
        }
    }
}

/// Everything that a guest may import.
pub(crate) fn linker(engine: &Engine) -> Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    put_sink::add_to_linker(&mut linker, |state: &mut State| &mut state.put_sink)?;
    Ok(linker)
}

/// Counts the linear memory of all modules of a guest, and holds it under [`ALL_MEMORY_BYTES`].
pub(crate) struct MemoryLimit {
    bytes: usize,
}

impl MemoryLimit {
    /// How much linear memory the guest has, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        let bytes = self.bytes.saturating_add(desired.saturating_sub(current));
        let grows = bytes <= ALL_MEMORY_BYTES;
        if grows {
            self.bytes = bytes;
        } else {
            tracing::warn!(
                bytes,
                limit = ALL_MEMORY_BYTES,
                "the guest may not have so much memory"
            );
        }
        Ok(grows)
    }

    fn table_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.outgoing,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}
