//! `health`: asks a server whether it is ready, for containers and scripts.

use alldata_peer_server_http::sinks::HttpSink;
use anyhow::{Context as _, Result, anyhow};

use crate::arguments::Health;
use crate::units::Timeout;

/// Succeeds if the server responds with 200. Prints nothing then.
pub(crate) fn health(arguments: &Health) -> Result<()> {
    let server = HttpSink::new(&arguments.url)?;
    let Timeout(timeout) = arguments.timeout;
    // As for `put`.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let response =
        runtime.block_on(async { tokio::time::timeout(timeout, server.check_health()).await });
    runtime.shutdown_background();
    response
        .map_err(|_elapsed| anyhow!("no response in {} s", timeout.as_secs_f64()))
        .and_then(|response| Ok(response?))
        .with_context(|| format!("{} is not ready", server.name()))
}
