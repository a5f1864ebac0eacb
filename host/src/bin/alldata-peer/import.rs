//! `import`: lines of JSON into a store.
//!
//! Goes on past a line that can't be put, so that one does not keep out the rest, and fails at
//! the end. What is stored already is passed over, so an import can be run again.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use alldata_peer_guest::decode::{MAX_BODY_BYTES, decode};
use alldata_peer_server_http::sink::BoxSink;
use alldata_peer_server_http::{PutSink as _, sinks};
use anyhow::{Context as _, Result, bail};
use futures_util::future::join_all;
use indicatif::{ProgressBar, ProgressStyle};

use crate::arguments::Import;
use crate::output;
use crate::reader::Store;

/// The longest line in bytes, without its end: what a peer would take as a body.
const MAX_LINE_BYTES: u64 = MAX_BODY_BYTES as u64;

/// How many lines are put at a time, and share a transaction: enough that the cost of its sync
/// no longer counts.
const BATCH_LINES: usize = 512;

/// The size in bytes at which a batch takes no further line, so that it fits the memory.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Puts every line of a file.
pub(crate) fn import(arguments: &Import) -> Result<()> {
    let (input, bytes) = open(&arguments.input)?;
    Store::parse(&arguments.store.url)?;
    // Beside this thread, which reads the file, a connection has to be kept.
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let sink = runtime.block_on(sinks::open(&arguments.store.url))?;
    let bar = progress_bar(bytes);
    let mut lines = Lines { input, number: 0 };
    let mut tally = Tally::default();
    loop {
        let batch = lines
            .next_batch()
            .with_context(|| format!("cannot read {}", arguments.input.display()))?;
        if batch.is_empty() {
            break;
        }
        bar.inc(batch.iter().map(|line| line.text.len() as u64).sum());
        runtime.block_on(tally.put_all(&sink, &batch));
    }
    bar.finish_and_clear();
    if tally.failed > 0 {
        bail!(
            "{} lines were not imported, {} were",
            tally.failed,
            tally.imported
        );
    }
    output::write_line(&format!("{} events", tally.imported))
}

#[derive(Debug, Default)]
struct Tally {
    imported: u64,
    failed: u64,
}

impl Tally {
    async fn put_all(&mut self, sink: &BoxSink, batch: &[Line]) {
        let puts = batch.iter().map(|line| async {
            let put = decode(&line.text).map_err(|error| error.to_string())?;
            sink.put(put.key.clone().into_owned(), put.event.to_owned())
                .await
                .map_err(|error| format!("{:?}: {error}", put.key))
        });
        for (line, result) in batch.iter().zip(join_all(puts).await) {
            match result {
                Ok(()) => self.imported += 1,
                Err(error) => {
                    self.failed += 1;
                    output::complain(&format!("line {}: {error}", line.number));
                }
            }
        }
    }
}

struct Line {
    number: u64,
    text: Vec<u8>,
}

struct Lines {
    input: Box<dyn BufRead>,
    number: u64,
}

impl Lines {
    /// The next lines that are not blank; none at the end.
    fn next_batch(&mut self) -> Result<Vec<Line>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_LINES && bytes < BATCH_BYTES {
            let mut text = Vec::new();
            let most = MAX_LINE_BYTES + 1;
            if self
                .input
                .by_ref()
                .take(most)
                .read_until(b'\n', &mut text)?
                == 0
            {
                break;
            }
            self.number += 1;
            if text.len() as u64 == most && !text.ends_with(b"\n") {
                bail!("line {} has more than {MAX_LINE_BYTES} bytes", self.number);
            }
            if !text.trim_ascii().is_empty() {
                bytes += text.len();
                batch.push(Line {
                    number: self.number,
                    text,
                });
            }
        }
        Ok(batch)
    }
}

/// The input and its size, as far as that is known.
fn open(path: &Path) -> Result<(Box<dyn BufRead>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let bytes = file.metadata().ok().filter(Metadata::is_file);
    let bytes = bytes.map(|metadata| metadata.len());
    Ok((Box::new(BufReader::new(file)), bytes))
}

fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{wide_bar} {binary_bytes} of {binary_total_bytes}, {eta}",
        ),
        None => (ProgressBar::no_length(), "{binary_bytes}"),
    };
    let style = ProgressStyle::with_template(template);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
