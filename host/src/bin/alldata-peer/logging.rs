//! The log on standard error, as text or JSON, filtered by `RUST_LOG`.

use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::{env, io};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry};

use crate::arguments::LogFormat;
use crate::otlp::Traces;

/// Libraries whose logs are off unless `RUST_LOG` names them: the sink `nats:` and the exporter of traces log the relevant
/// events themselves.
const VERBOSE_TARGETS: [&str; 3] = ["async_nats", "opentelemetry-http", "opentelemetry-otlp"];

/// Starts the log of this process, and the export of its traces.
pub(crate) fn start(format: LogFormat, traces: &Traces) {
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
        Some(traces) => {
            let lines = lines(format).with_filter(filter);
            registry.with(lines).with(traces).init();
        }
    }
    traces.log();
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
