//! The log on standard error, as text or JSON, filtered by `RUST_LOG`.

use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::{env, io};

use anyhow::Result;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry};

use crate::arguments::LogFormat;
use crate::otlp::Traces;

/// Libraries whose logs are off unless `RUST_LOG` names them: the sink `nats:` and the exporter of traces log the relevant
/// events themselves.
const VERBOSE_TARGETS: [&str; 3] = ["async_nats", "opentelemetry-http", "opentelemetry-otlp"];

/// Starts the log of this process, and the export of its traces if it is a server.
///
/// # Errors
///
/// When a variable about traces has an invalid value.
pub(crate) fn start(format: LogFormat, is_server: bool) -> Result<Traces> {
    // The libraries of the exporter warn of variables before there is the log, which needs the exporter. Not by the filter
    // of the log, which would tell twice that it is invalid.
    let early = tracing_subscriber::registry()
        .with(lines(format))
        .with(LevelFilter::WARN);
    let traces = tracing::subscriber::with_default(early, || Traces::open(is_server))?;
    let mut filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    let directives = env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    for target in VERBOSE_TARGETS {
        if !directives.contains(target) {
            let off = format!("{target}={}", LevelFilter::OFF);
            filter = filter.add_directive(off.parse().expect("it is a target and a level"));
        }
    }
    let registry = tracing_subscriber::registry();
    match traces.layer() {
        None => registry.with(lines(format)).with(filter).init(),
        // Each with a filter of its own: what is exported is not logged.
        Some(layer) => {
            let lines = lines(format).with_filter(filter);
            registry.with(lines).with(layer).init();
        }
    }
    traces.log();
    Ok(traces)
}

/// The lines on standard error.
fn lines(format: LogFormat) -> Box<dyn Layer<Registry> + Send + Sync> {
    let log = tracing_subscriber::fmt::layer()
        // An error while writing the log must not end the process.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => {
            let forbids_color = forbids_color(env::var_os("NO_COLOR").as_deref());
            log.with_ansi(io::stderr().is_terminal() && !forbids_color)
                .boxed()
        }
        LogFormat::Json => log.json().boxed(),
    }
}

/// Whether this value of `NO_COLOR` disables colors: <https://no-color.org>.
fn forbids_color(value: Option<&OsStr>) -> bool {
    value.is_some_and(|value| !value.is_empty())
}
