//! `put`: one event to a peer, for people without a peer client.

use std::io::{self, Read as _};

use alldata_peer_server_http::PutSink as _;
use alldata_peer_server_http::sinks::HttpSink;
use anyhow::{Context as _, Result};
use serde::de::IgnoredAny;

use crate::arguments::Put;

/// The event on the command line is not JSON, and would only be refused.
#[derive(Debug, thiserror::Error)]
#[error("the event is not JSON: {0}; a text stands in quotes, as in '\"text\"'")]
pub(crate) struct NotJson(#[source] serde_json::Error);

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
        .block_on(sink.put(arguments.key, event))
        .with_context(|| format!("the put to {} was not acknowledged", arguments.to))
}

fn read_stdin() -> Result<String> {
    let mut event = String::new();
    io::stdin()
        .read_to_string(&mut event)
        .context("cannot read the event from standard input")?;
    Ok(event)
}
