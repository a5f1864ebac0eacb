//! `serve`: runs a server until a signal.

use std::io::{self, Write as _};
use std::sync::{Arc, OnceLock};

use alldata_peer_server_http::sink::{BoxSink, LossReport};
use alldata_peer_server_http::sinks::SinkOptions;
use alldata_peer_server_http::{
    Error, LocalAddress, Monitor, PeerListener, PeerServer, PeerServerBuilder, Reloaded, sinks,
};
use anyhow::{Context as _, Result};
use tokio::runtime::Handle;

use crate::access::OpenAccess;
#[cfg(unix)]
use crate::activation;
#[cfg(feature = "admin")]
use crate::admin;
use crate::arguments::Serve;
use crate::signals::{self, Signals};
use crate::{access_log, component, output, panics, service_manager, startup};

/// The default sink.
const DEFAULT_SINK: &str = "sqlite:alldata.db";

/// The exit code after a second signal during the shutdown: that of a program that SIGINT ended.
const EXIT_SIGINT: i32 = 130;

/// A sink is given, but the component does not use it.
#[derive(Debug, thiserror::Error)]
#[error("the component has a sink of its own: leave out --sink and ALLDATA_PEER_SINK")]
pub(crate) struct UnusedSink;

/// The server was closed without events that it has acknowledged.
#[derive(Debug, thiserror::Error)]
#[error("acknowledged events may be lost: they could not be copied, see the log")]
pub(crate) struct EventsLost;

/// Tells at the end whether the sink has lost events.
type Losses = Arc<OnceLock<LossReport>>;

/// Serves until a signal, then drains the server.
pub(crate) fn serve(arguments: Serve) -> Result<()> {
    panics::server_starts();
    signals::unblock_termination();
    #[cfg(unix)]
    let passed = activation::listeners()?;
    #[cfg(not(unix))]
    let passed = Vec::new();
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let result = runtime.block_on(run(arguments, passed));
    // Tasks that exceeded the drain time-out are not awaited: no signal could end that any more.
    runtime.shutdown_background();
    result
}

async fn run(arguments: Serve, passed: Vec<PeerListener>) -> Result<()> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let arguments = Arc::new(arguments);
    let monitor = Monitor::new();
    let given = Arc::clone(&arguments);
    let access = tokio::select! {
        access = run_on_blocking_thread(|| async move { given.access.open() }) => access?,
        signal = signals.next() => {
            tracing::info!(signal, "closed before it listened");
            return Ok(());
        }
    };
    #[cfg(feature = "admin")]
    let admin = admin::listen(&arguments, &access, &monitor).await?;
    let given = Arc::clone(&arguments);
    let (server, sink, losses) = tokio::select! {
        listening = run_on_blocking_thread(move || listen(given, access, passed, monitor)) => listening?,
        // Compiling a large component takes a while, and reading a file from a mount may block. No request
        // is in service yet.
        signal = signals.next() => {
            tracing::info!(signal, "closed before it listened");
            return Ok(());
        }
    };
    panics::server_listens();
    let line = announce(&server, access_log::is_stdout_taken(&arguments));
    startup::log(&server, &arguments, sink.as_deref());
    service_manager::ready(&line);
    let signal = tokio::select! {
        signal = signals.next_or_reload(|| reload(&server, &line)) => signal,
        never = service_manager::watch(|| server.is_accepting()) => match never {},
    };
    tracing::info!(signal, "closing");
    service_manager::stopping();
    let close = async {
        server.close().await;
        // The sink's last writes may block.
        tokio::task::spawn_blocking(move || drop(server)).await
    };
    tokio::select! {
        dropped = close => dropped.context("cannot close the server")?,
        signal = signals.next_after_pause() => {
            tracing::warn!(signal, "exiting at once, without waiting for the shutdown");
            std::process::exit(EXIT_SIGINT);
        }
        never = service_manager::watch(|| true) => match never {},
    }
    // The last to close: until here operators see that the server drains.
    #[cfg(feature = "admin")]
    drop(admin);
    tracing::info!("closed");
    match losses.get() {
        Some(report) if report.has_lost_events() => Err(EventsLost.into()),
        _ => Ok(()),
    }
}

/// Reads files again, and reopens that of the sink.
async fn reload(server: &PeerServer, status: &str) -> Reloaded {
    service_manager::reloading();
    let reloaded = server.reload_and_wait().await;
    service_manager::ready(status);
    reloaded
}

/// A server, the URL of its sink unless the component has its own, and the losses of that sink at the end.
async fn listen(
    arguments: Arc<Serve>,
    access: OpenAccess,
    passed: Vec<PeerListener>,
    monitor: Monitor,
) -> Result<(PeerServer, Option<String>, Losses)> {
    let losses = Losses::default();
    let (builder, sink) = configure(&arguments, &access)?;
    let mut builder = builder.monitor(&monitor);
    if let Some(log) = access_log::open(&arguments)? {
        builder = builder.access_log(log);
    }
    if !passed.is_empty() {
        tracing::info!(
            listeners = passed.len(),
            "listening on the sockets of the service manager: --listen, --hostname and --port have no effect"
        );
        for listener in passed {
            builder = builder.listen_on(listener);
        }
    } else {
        for address in &arguments.listen {
            builder = builder.listen_address(address.clone());
        }
    }
    if let Some(url) = sink.clone() {
        // A start that fails for another reason does not create a store.
        let options = sink_options(&arguments);
        builder = builder.sink_when_bound(open_sink(url, options, Arc::clone(&losses)));
    }
    Ok((builder.listen().await?, sink, losses))
}

/// A builder with all settings but the sink, and the URL of the sink unless the component has its own.
pub(crate) fn configure(
    arguments: &Serve,
    access: &OpenAccess,
) -> Result<(PeerServerBuilder, Option<String>)> {
    let builder = PeerServer::builder().port(arguments.port);
    let mut builder = arguments.limits.apply_to(builder);
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
    builder = access.apply_to(builder);
    builder = builder.trusted_proxies(arguments.proxies.settings()?);
    // No store is created that a component with a sink of its own would not use.
    let sink = match (&arguments.sink, needs_sink) {
        (Some(_), false) => return Err(UnusedSink.into()),
        (None, false) => None,
        (url, true) => Some(url.as_deref().unwrap_or(DEFAULT_SINK).to_owned()),
    };
    Ok((builder, sink))
}

/// The options of the sink.
pub(crate) fn sink_options(arguments: &Serve) -> SinkOptions {
    SinkOptions {
        verify_store: arguments.verify_store,
        ..arguments.limits.sink_options()
    }
}

/// Opens a sink on a blocking thread.
async fn open_sink(
    url: String,
    options: SinkOptions,
    losses: Losses,
) -> std::result::Result<BoxSink, Error> {
    let open = move || async move { sinks::open_with(&url, options).await };
    let sink = run_on_blocking_thread(open).await?;
    losses.get_or_init(|| sink.loss_report());
    Ok(sink)
}

/// Runs a future that may block on a thread of its own, which is not awaited at the end.
pub(crate) async fn run_on_blocking_thread<T: Send + 'static, F: Future<Output = T>>(
    begin: impl FnOnce() -> F + Send + 'static,
) -> T {
    let run = move || Handle::current().block_on(begin());
    match tokio::task::spawn_blocking(run).await {
        Ok(done) => done,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// Prints the addresses of the server: one line on standard output, or on standard error if standard output
/// is the sink or the access log. An error is logged and the server continues.
fn announce(server: &PeerServer, is_stdout_taken: bool) -> String {
    let url = |address: &LocalAddress| match address {
        LocalAddress::Tcp(address) => format!("{}://{address}", server.scheme()),
        other => other.to_string(),
    };
    let addresses: Vec<String> = server.listen_addresses().iter().map(url).collect();
    let line = format!("listening on {}", addresses.join(", "));
    if is_stdout_taken {
        output::report(&line);
        return line;
    }
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    if let Err(error) = written {
        tracing::warn!(%error, "cannot write to standard output: {line}");
    }
    line
}
