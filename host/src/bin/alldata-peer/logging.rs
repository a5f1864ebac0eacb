//! The log on standard error, as text or JSON, filtered by `RUST_LOG`.

use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::{env, io};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::arguments::LogFormat;

/// A library whose log about its connections is off unless `RUST_LOG` names it: the sink logs the relevant
/// events itself.
const VERBOSE_TARGET: &str = "async_nats";

/// Starts the log of this process.
pub(crate) fn start(format: LogFormat) {
    let mut filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    let directives = env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    if !directives.contains(VERBOSE_TARGET) {
        let off = format!("{VERBOSE_TARGET}={}", LevelFilter::OFF);
        filter = filter.add_directive(off.parse().expect("it is a target and a level"));
    }
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // An error while writing the log must not end the process.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => log
            .with_ansi(
                io::stderr().is_terminal() && !forbids_color(env::var_os("NO_COLOR").as_deref()),
            )
            .init(),
        LogFormat::Json => log.json().init(),
    }
}

/// Whether this value of `NO_COLOR` disables colors: <https://no-color.org>.
fn forbids_color(value: Option<&OsStr>) -> bool {
    value.is_some_and(|value| !value.is_empty())
}
