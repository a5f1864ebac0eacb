//! `serve`: a server from its flags to its end.

use std::io::{self, Write as _};
use std::sync::{Arc, OnceLock};

use alldata_peer_server_http::sink::{BoxSink, LossReport};
use alldata_peer_server_http::sinks::SinkOptions;
use alldata_peer_server_http::{Error, PeerServer, sinks};
use anyhow::{Context as _, Result};
use tokio::runtime::Handle;

use crate::arguments::Serve;
use crate::signals::{self, Signals};
use crate::{component, output, panics, startup};

/// Where events go unless something else is said.
const DEFAULT_SINK: &str = "sqlite:alldata.db";

/// The exit code when a second signal cuts the end short: that of a program ended by SIGINT.
const CUT_SHORT: i32 = 130;

/// A sink was asked for that no event would reach.
#[derive(Debug, thiserror::Error)]
#[error("the component has a sink of its own: leave out --sink and ALLDATA_PEER_SINK")]
pub(crate) struct UnusedSink;

/// The server was closed without events that it has acknowledged.
#[derive(Debug, thiserror::Error)]
#[error(
    "acknowledged events may be lost, of which no copy could be made: the log says of which file"
)]
struct EventsLost;

/// Serves until a signal comes, then answers what is in flight.
pub(crate) fn serve(arguments: Serve) -> Result<()> {
    panics::server_starts();
    signals::unblock();
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let result = runtime.block_on(run(arguments));
    // What outlasted the drain time-out is not waited for: no signal would end that any more.
    runtime.shutdown_background();
    result
}

async fn run(arguments: Serve) -> Result<()> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let arguments = Arc::new(arguments);
    let given = Arc::clone(&arguments);
    let (server, sink, losses) = tokio::select! {
        listening = on_own_thread(move || listen(given)) => listening?,
        // A large component takes a while to compile, a file may be on a mount that hangs, and nothing is
        // in flight yet.
        signal = signals.next() => {
            tracing::info!(signal, "closed before it listened");
            return Ok(());
        }
    };
    panics::server_listens();
    announce(&server, arguments.sink.as_deref() == Some("ndjson:-"));
    startup::log(&server, &arguments, sink.as_deref());
    let signal = signals.next().await;
    tracing::info!(signal, "closing");
    let close = async {
        server.close().await;
        // The sink's last writes may block.
        tokio::task::spawn_blocking(move || drop(server)).await
    };
    tokio::select! {
        dropped = close => dropped.context("cannot close the server")?,
        signal = signals.next_after_pause() => {
            tracing::warn!(signal, "not waiting any longer");
            std::process::exit(CUT_SHORT);
        }
    }
    tracing::info!("closed");
    match losses.get() {
        Some(report) if report.has_lost_events() => Err(EventsLost.into()),
        _ => Ok(()),
    }
}

/// What tells at the end whether the sink has lost events.
type Losses = Arc<OnceLock<LossReport>>;

/// A server, the URL of its sink where that is not the component's own, and what that has lost at the end.
async fn listen(arguments: Arc<Serve>) -> Result<(PeerServer, Option<String>, Losses)> {
    let losses = Losses::default();
    let limits = &arguments.limits;
    let mut builder = limits.set(PeerServer::builder().port(arguments.port));
    if let Some(hostname) = arguments.hostname.as_ref().filter(|name| !name.is_empty()) {
        builder = builder.hostname(hostname);
    }
    let mut needs_sink = true;
    if let Some(path) = &arguments.component {
        needs_sink = component::needs_sink(path)?;
        builder = builder.component_file(path);
    }
    if let Some(directory) = &arguments.compile_cache {
        builder = builder.compile_cache(directory);
    }
    for (name, value) in &arguments.env {
        builder = builder.component_env(name, value);
    }
    for (path, name) in &arguments.dir {
        builder = builder.component_dir(path, name);
    }
    // A component with a sink of its own leaves no store behind that nobody uses.
    let sink = match (&arguments.sink, needs_sink) {
        (Some(_), false) => return Err(UnusedSink.into()),
        (None, false) => None,
        (url, true) => {
            let url = url.as_deref().unwrap_or(DEFAULT_SINK).to_owned();
            let options = SinkOptions {
                verify_store: arguments.verify_store,
                ..limits.of_sink()
            };
            // A start that fails for another reason leaves no new store behind.
            let opened = open_sink(url.clone(), options, Arc::clone(&losses));
            builder = builder.sink_when_bound(opened);
            Some(url)
        }
    };
    Ok((builder.listen().await?, sink, losses))
}

/// Opens a sink on a thread that may be blocked by that.
async fn open_sink(
    url: String,
    options: SinkOptions,
    losses: Losses,
) -> std::result::Result<BoxSink, Error> {
    let open = move || async move { sinks::open_with(&url, options).await };
    let sink = on_own_thread(open).await?;
    losses.get_or_init(|| sink.loss_report());
    Ok(sink)
}

/// Runs what may block on a thread of its own, which is not waited for at the end.
async fn on_own_thread<T: Send + 'static, F: Future<Output = T>>(
    begin: impl FnOnce() -> F + Send + 'static,
) -> T {
    let run = move || Handle::current().block_on(begin());
    match tokio::task::spawn_blocking(run).await {
        Ok(done) => done,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// Says where the server listens: one line on standard output, or on standard error where
/// standard output is for events. A reader that is gone is no reason to stop.
fn announce(server: &PeerServer, stdout_is_taken: bool) {
    let addresses: Vec<String> = server
        .local_addrs()
        .iter()
        .map(|address| format!("http://{address}"))
        .collect();
    let line = format!("listening on {}", addresses.join(", "));
    if stdout_is_taken {
        output::complain(&line);
        return;
    }
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    if let Err(error) = written {
        tracing::warn!(%error, "cannot write to standard output: {line}");
    }
}
