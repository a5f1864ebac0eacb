//! `serve --check`: validates everything that a start needs, without listening.

use std::fs;
use std::io::ErrorKind;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alldata_peer_server_http::sinks::{self, DiscardSink};
use anyhow::{Context as _, Result, ensure};
use tokio::runtime::Runtime;

#[cfg(feature = "admin")]
use crate::admin;
use crate::arguments::Serve;
use crate::serve::{configure, run_on_blocking_thread, sink_options};
use crate::{access_log, output, panics};

/// The sinks whose file the start creates if it does not exist.
const FILE_SCHEMES: [&str; 2] = ["sqlite", "ndjson"];

/// The most copies of a store that are numbered, see `docs/reliability.md`.
const MAX_COPIES: u32 = 16;

/// Prints one line if a server with these arguments would start. Does not check whether its addresses are free.
pub(crate) fn check(arguments: Serve) -> Result<()> {
    panics::server_starts();
    let runtime = Runtime::new().context("cannot start the runtime")?;
    let line = runtime.block_on(run_on_blocking_thread(|| validate(Arc::new(arguments))));
    output::write_line(&line?)
}

async fn validate(arguments: Arc<Serve>) -> Result<String> {
    let access = arguments.access.open()?;
    let (builder, url) = configure(&arguments, &access)?;
    for address in &arguments.listen {
        address.check()?;
    }
    #[cfg(feature = "admin")]
    admin::check(&arguments, &access)?;
    access_log::check(&arguments)?;
    let new_file = url.as_deref().and_then(missing_file);
    let builder = match (&url, &new_file) {
        (None, _) => builder,
        // It is not created by a check.
        (Some(_), Some(_)) => builder.sink(DiscardSink),
        (Some(url), None) => {
            let (url, options) = (url.clone(), sink_options(&arguments));
            builder.sink_when_bound(async move { sinks::open_with(&url, options).await })
        }
    };
    let server = builder.build().await?;
    if let Some(path) = &new_file {
        check_directory(path)?;
    }
    server.close().await;
    // This is a blocking thread.
    drop(server);
    let sink = url.as_deref().map(sinks::describe_url);
    let sink = sink.as_deref().unwrap_or("that of the component");
    let note = new_file.map_or("", |_| ", which the start creates");
    Ok(format!("the configuration is valid; sink: {sink}{note}"))
}

/// The file of a sink, if it does not exist and a start would begin a new one.
fn missing_file(url: &str) -> Option<PathBuf> {
    let (scheme, path) = url.split_once(':')?;
    // Paths of other forms are errors, except for standard output.
    let is_file = FILE_SCHEMES.contains(&scheme)
        && !["", "-"].contains(&path)
        && !path.contains('?')
        && !path.starts_with("//");
    let path = Path::new(path);
    let is_missing =
        is_file && fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    (is_missing && !(scheme == "sqlite" && has_remains(path))).then(|| path.to_owned())
}

/// Whether there are copies or a WAL of a missing store, which a start restores it from, or refuses to start beside.
fn has_remains(store: &Path) -> bool {
    let beside = |suffix: &str| {
        let mut path = store.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    };
    let wal = fs::metadata(beside("-wal"));
    let mut copies = iter::once(beside(".rescued"))
        .chain((2..=MAX_COPIES).map(|number| beside(&format!(".rescued-{number}"))));
    wal.is_ok_and(|wal| wal.len() > 0) || copies.any(|copy| copy.exists())
}

/// Checks that a file can be created beside the others of its directory.
fn check_directory(path: &Path) -> Result<()> {
    let cannot_create = || format!("cannot create {}", path.display());
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or(Path::new("."));
    let found = fs::metadata(directory)
        .with_context(|| format!("{}: {}", cannot_create(), directory.display()))?;
    ensure!(
        found.is_dir(),
        "{}: {} is not a directory",
        cannot_create(),
        directory.display()
    );
    #[cfg(unix)]
    rustix::fs::access(
        directory,
        rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
    )
    .with_context(|| format!("{}: {}", cannot_create(), directory.display()))?;
    Ok(())
}
