//! `put`: one event to a peer, for people without a peer client.

use std::io::{self, Read as _};
use std::time::Duration;

use alldata_peer_server_http::sinks::HttpSink;
use anyhow::{Context as _, Result, anyhow};
use serde::de::IgnoredAny;

use crate::arguments::Put;

/// How long to wait for the peer: longer than it waits for its own sink unless told otherwise.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The event on the command line is not JSON, and would only be refused.
#[derive(Debug, thiserror::Error)]
#[error("the event is not JSON: {0}; a text stands in quotes, as in '\"text\"'")]
pub(crate) struct NotJson(serde_json::Error);

/// Puts one event, and says nothing where that succeeds.
pub(crate) fn put(arguments: Put) -> Result<()> {
    let sink = HttpSink::new(&arguments.to)?;
    let event = match arguments.event.as_str() {
        "-" => read_stdin()?,
        _ => arguments.event,
    };
    serde_json::from_str::<IgnoredAny>(&event).map_err(NotJson)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(async {
            let put = sink.try_put(&arguments.key, &event);
            tokio::time::timeout(ANSWER_TIMEOUT, put).await
        })
        .map_err(|_elapsed| anyhow!("no answer in {} s", ANSWER_TIMEOUT.as_secs()))
        .and_then(|answer| Ok(answer?))
        .with_context(|| format!("the put to {} was not acknowledged", arguments.to))
}

fn read_stdin() -> Result<String> {
    let mut event = String::new();
    io::stdin()
        .read_to_string(&mut event)
        .context("cannot read the event from standard input")?;
    Ok(event)
}
