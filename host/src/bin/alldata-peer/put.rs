//! `put`: puts one event to a peer.

use std::io::{self, Read as _};

use alldata_peer_server_http::sinks::HttpSink;
use anyhow::{Context as _, Result, anyhow};
use serde::de::IgnoredAny;

use crate::arguments::Put;
use crate::units::Timeout;

/// The event is not JSON, so a peer would refuse it.
#[derive(Debug, thiserror::Error)]
#[error("the event is not JSON: {0}; a string needs quotes, as in '\"text\"'")]
pub(crate) struct NotJson(serde_json::Error);

/// Puts one event. Prints nothing if that succeeds.
pub(crate) fn put(arguments: Put) -> Result<()> {
    let sink = HttpSink::new(&arguments.to)?;
    let event = match arguments.event.as_str() {
        "-" => read_stdin()?,
        _ => arguments.event,
    };
    serde_json::from_str::<IgnoredAny>(&event).map_err(NotJson)?;
    // Two threads, so that a peer that floods one connection with data does not delay the time-out.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let Timeout(timeout) = arguments.timeout;
    let response = runtime.block_on(async {
        let put = sink.try_put(&arguments.key, &event);
        tokio::time::timeout(timeout, put).await
    });
    // A pending name resolution is not awaited.
    runtime.shutdown_background();
    response
        .map_err(|_elapsed| anyhow!("no response in {} s", timeout.as_secs_f64()))
        .and_then(|response| Ok(response?))
        .with_context(|| format!("the put to {} was not acknowledged", sink.name()))
}

fn read_stdin() -> Result<String> {
    let mut event = String::new();
    io::stdin()
        .read_to_string(&mut event)
        .context("cannot read the event from standard input")?;
    Ok(event)
}
