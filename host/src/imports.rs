//! What a guest may import: HTTP types, `put-sink`, and a WASI that shows it nothing.
//!
//! No directory, no environment, no network, no standard streams: a component that was built
//! with a standard library starts, but sees an empty world. Never calls the guest.

use std::sync::Arc;

use wasmtime::component::{Linker, Resource, ResourceTable};
use wasmtime::{Engine, ResourceLimiter, Result, StoreContextMut};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::LinkOptions;
use wasmtime_wasi_http::p2::bindings::http::types::{self, ErrorCode};
use wasmtime_wasi_http::{
    RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::computing::ComputingTime;
use crate::put_sink::{self, PutSinkContext};

/// The most linear memory of one guest, in bytes: a body of 16 MiB, twice that while its buffer
/// grows, and the rest for the guest itself.
pub(crate) const MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// The name and version under which the HTTP types are offered. A guest may import any 0.2.
const HTTP_TYPES: &str = "wasi:http/types@0.2.12";

/// What the store of an instance holds.
pub(crate) struct State {
    pub(crate) table: ResourceTable,
    pub(crate) memory: MemoryLimit,
    pub(crate) computing: Arc<ComputingTime>,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: NoOutgoingRequests,
    put_sink: PutSinkContext,
}

impl State {
    pub(crate) fn new(put_sink: PutSinkContext) -> Self {
        Self {
            table: ResourceTable::new(),
            memory: MemoryLimit { bytes: 0 },
            computing: Arc::default(),
            wasi: WasiCtx::builder().build(),
            http: WasiHttpCtx::new(),
            hooks: NoOutgoingRequests,
            put_sink,
        }
    }
}

/// Everything that a guest may import.
pub(crate) fn linker(engine: &Engine) -> Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    types::add_to_linker::<_, WasiHttp>(&mut linker, &LinkOptions::default().into(), State::http)?;
    put_sink::add_to_linker(&mut linker, |state: &mut State| &mut state.put_sink)?;
    mend_http_error_code(&mut linker)?;
    Ok(linker)
}

/// wasmtime-wasi-http 48 hands a body's error to the guest as its own `Error`, but looks for an
/// `error-code` when the guest asks what it was, and so never finds one. Without the code the
/// guest could not tell a body that is too large or too slow from a lost connection.
fn mend_http_error_code(linker: &mut Linker<State>) -> Result<()> {
    linker.allow_shadowing(true);
    linker.instance(HTTP_TYPES)?.func_wrap(
        "http-error-code",
        |store: StoreContextMut<'_, State>, (error,): (Resource<types::IoError>,)| {
            let error = store.data().table.get(&error)?;
            Ok((error.downcast_ref().and_then(error_code),))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The codes that a request's body can end with. Any other error reads as none: a lost connection.
fn error_code(error: &wasmtime_wasi_http::Error) -> Option<ErrorCode> {
    use wasmtime_wasi_http::Error;
    match error {
        Error::HttpRequestBodySize(limit) => Some(ErrorCode::HttpRequestBodySize(*limit)),
        Error::ConnectionReadTimeout => Some(ErrorCode::ConnectionReadTimeout),
        Error::ConnectionLimitReached => Some(ErrorCode::ConnectionLimitReached),
        _ => None,
    }
}

/// Counts the linear memory of all modules of a guest, and holds it under [`MEMORY_BYTES`].
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
        let grows = bytes <= MEMORY_BYTES;
        if grows {
            self.bytes = bytes;
        } else {
            tracing::warn!(
                bytes,
                limit = MEMORY_BYTES,
                "the guest may not have so much memory"
            );
        }
        Ok(grows)
    }

    fn table_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }
}

/// A peer answers requests and makes none: `wasi:http/outgoing-handler` is not even linked.
struct NoOutgoingRequests;

impl WasiHttpHooks for NoOutgoingRequests {
    fn send_request(
        &mut self,
        _: hyper::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Transfer,
    ) -> Box<dyn Future<Output = HttpResult<(hyper::Response<WasiBody>, Transfer)>> + Send> {
        Box::new(async { Err(wasmtime_wasi_http::Error::HttpRequestDenied) })
    }
}

type HttpResult<T> = std::result::Result<T, wasmtime_wasi_http::Error>;

/// How the body of an outgoing request ends.
type Transfer = Box<dyn Future<Output = HttpResult<()>> + Send>;

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
            hooks: &mut self.hooks,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}
