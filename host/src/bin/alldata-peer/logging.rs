//! The log: on standard error, as text or JSON, as much of it as `RUST_LOG` asks for.

use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::{env, io};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::arguments::LogFormat;

/// What speaks of its connections at such length that the sink says in its place what is worth it,
/// unless `RUST_LOG` asks for it by name.
const TALKATIVE: &str = "async_nats";

/// Starts the log of this process.
pub(crate) fn start(format: LogFormat) {
    let mut filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    let asked = env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    if !asked.contains(TALKATIVE) {
        let quiet = format!("{TALKATIVE}={}", LevelFilter::OFF);
        filter = filter.add_directive(quiet.parse().expect("it is a target and a level"));
    }
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A log that can't be written must not end what is logged.
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

/// Whether this value of `NO_COLOR` asks for text without colors: <https://no-color.org>.
fn forbids_color(value: Option<&OsStr>) -> bool {
    value.is_some_and(|value| !value.is_empty())
}
