//! `import`: lines of JSON into a store.
//!
//! Goes on past a line that can't be put, so that one does not keep out the rest, and fails at
//! the end. What is stored already is passed over, so an import can be run again.

use std::collections::HashSet;
use std::fmt;
use std::fs::{File, Metadata, canonicalize};
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use alldata_peer_protocol::decode::{Put, decode};
use alldata_peer_server_http::sink::BoxSink;
use alldata_peer_server_http::sinks::{self, DEFAULT_MAX_QUEUED_PUTS};
use alldata_peer_server_http::store::database_role;
use alldata_peer_server_http::{PutError, PutSink as _};
use anyhow::{Context as _, Error, Result, bail, ensure};
use futures_util::future::join_all;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::arguments::Import;
use crate::lines::{Line, Lines};
use crate::output;
use crate::reader::{Reader, Store};
use crate::serve::EventsLost;

/// What stands for standard input, and its path, where systems have one.
const STDIN: &str = "-";
const STDIN_PATH: &str = "/dev/stdin";

/// The most lines of a batch for `sqlite:`, whose largest transactions two of them fill. They also fit into its queue.
const SQLITE_BATCH: usize = 2048;
const _: () = assert!(2 * SQLITE_BATCH <= DEFAULT_MAX_QUEUED_PUTS);

/// The same for `nats:`, where a put that waits too long for those before it fails. The next batch waits for the last one.
#[cfg(feature = "nats")]
const NATS_BATCH: usize = 512;

/// Puts every line of a file.
pub(crate) fn import(arguments: &Import) -> Result<()> {
    let store = Store::parse(&arguments.store.url)?;
    let (input, bytes) = open(&arguments.input, &store)?;
    // Beside this thread, which reads the file, a connection has to be kept.
    let runtime = Runtime::new().context("cannot start the runtime")?;
    let sink = runtime.block_on(sinks::open(&arguments.store.url))?;
    let (max_batch, is_pipelined) = match store {
        Store::Sqlite(_) => (SQLITE_BATCH, true),
        #[cfg(feature = "nats")]
        Store::Nats(_) => (NATS_BATCH, false),
    };
    let mut target = Target {
        reader: Reader::open(&arguments.store.url)?,
        sink,
        runtime,
        is_pipelined,
        in_flight: None,
    };
    let bar = progress_bar(bytes);
    let mut lines = Lines::new(input, max_batch);
    let mut summary = ImportSummary::default();
    let result = loop {
        match lines.next_batch() {
            Ok(batch) if batch.is_empty() => break Ok(()),
            Ok(batch) => {
                bar.inc(batch.iter().map(Line::bytes).sum());
                if let Err(error) = target.put_all(batch, &mut summary) {
                    break Err(error);
                }
            }
            Err(error) => {
                let file = arguments.input.display();
                break Err(Error::new(error).context(format!("cannot read {file}")));
            }
        }
    };
    let result = result.and(target.finish_in_flight(&mut summary));
    bar.finish_and_clear();
    let told = output::write_line(&summary.to_string());
    // The sink is closed, and knows then what it has lost.
    let losses = target.sink.loss_report();
    drop(target);
    if losses.has_lost_events() {
        return Err(EventsLost.into());
    }
    result?;
    let failed = summary.failed();
    ensure!(failed == 0, "{failed} lines were not imported");
    told
}

/// What became of the lines.
#[derive(Debug, Default)]
struct ImportSummary {
    new: u64,
    present: u64,
    conflicting: u64,
    bad: u64,
    /// Those that the store did not take for another reason.
    not_stored: u64,
}

impl ImportSummary {
    fn failed(&self) -> u64 {
        self.conflicting + self.bad + self.not_stored
    }
}

impl fmt::Display for ImportSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { new, present, .. } = self;
        let events = new + present;
        write!(formatter, "{events} events: {new} new, {present} present")?;
        if self.failed() == 0 {
            return Ok(());
        }
        let (conflicting, bad, not_stored) = (self.conflicting, self.bad, self.not_stored);
        write!(
            formatter,
            "; {} not imported: {conflicting} conflicting, {bad} bad, {not_stored} failed",
            self.failed()
        )
    }
}

/// Where the lines go. The reader is closed before the sink, which can't tidy up the store beside it.
struct Target {
    /// Tells what is there already, which the sink does not.
    reader: Reader,
    sink: BoxSink,
    runtime: Runtime,
    /// Whether the next batch is decoded while the store writes the last one.
    is_pipelined: bool,
    /// The last batch.
    in_flight: Option<Batch>,
}

/// A batch whose puts have begun.
struct Batch {
    /// The lines that are puts, with their keys.
    puts: Vec<(Line, String)>,
    /// The keys that had no event before.
    absent_keys: HashSet<String>,
    results: JoinHandle<Vec<Result<(), PutError>>>,
}

impl Target {
    /// Begins to put these lines, and waits for those of the call before.
    fn put_all(&mut self, lines: Vec<Line>, summary: &mut ImportSummary) -> Result<()> {
        if !self.is_pipelined {
            self.finish_in_flight(summary)?;
        }
        let (mut puts, mut events) = (Vec::with_capacity(lines.len()), Vec::new());
        for line in lines {
            match decode_line(&line) {
                Ok(Put { key, event }) => {
                    let key = key.into_owned();
                    events.push(event.to_owned());
                    puts.push((line, key));
                }
                Err(reason) => {
                    summary.bad += 1;
                    report(line.number(), &reason);
                }
            }
        }
        let keys: Vec<&str> = puts.iter().map(|(_, key)| &**key).collect();
        // Of two lines with the same key the first one is put first.
        let last = self.in_flight.as_ref();
        if last.is_some_and(|last| keys.iter().any(|key| last.absent_keys.contains(*key))) {
            self.finish_in_flight(summary)?;
        }
        let present = self.reader.contains(&keys)?;
        let absent = keys.iter().zip(present).filter(|(_, present)| !present);
        let absent_keys = absent.map(|(key, _)| (*key).to_owned()).collect();
        let keys = puts.iter().map(|(_, key)| key.clone());
        let records: Vec<_> = keys.zip(events).collect();
        let sink = self.sink.clone();
        let results = self.runtime.spawn(async move {
            let puts = records.into_iter().map(|(key, event)| sink.put(key, event));
            join_all(puts).await
        });
        let batch = Batch {
            puts,
            absent_keys,
            results,
        };
        match self.in_flight.replace(batch) {
            Some(last) => self.finish(last, summary),
            None => Ok(()),
        }
    }

    fn finish_in_flight(&mut self, summary: &mut ImportSummary) -> Result<()> {
        match self.in_flight.take() {
            Some(last) => self.finish(last, summary),
            None => Ok(()),
        }
    }

    /// Waits for a batch. Counts its lines, and reports those that failed.
    fn finish(&self, mut batch: Batch, summary: &mut ImportSummary) -> Result<()> {
        let results = self.runtime.block_on(batch.results);
        let results = results.context("the puts did not complete")?;
        // Many puts at a time can be too many for a store, where one is not.
        let mut puts_again = true;
        for ((line, key), mut result) in batch.puts.iter().zip(results) {
            if puts_again && let Err(PutError::Unavailable { .. }) = result {
                result = self.put_again(line);
                puts_again = !matches!(result, Err(PutError::Unavailable { .. }));
            }
            match result {
                Ok(()) if batch.absent_keys.remove(key) => summary.new += 1,
                Ok(()) => summary.present += 1,
                Err(error) => {
                    match error {
                        PutError::Conflict => summary.conflicting += 1,
                        _ => summary.not_stored += 1,
                    }
                    report(line.number(), &format!("{key:?}: {error}"));
                }
            }
        }
        Ok(())
    }

    fn put_again(&self, line: &Line) -> Result<(), PutError> {
        match decode_line(line) {
            Ok(Put { key, event }) => {
                let put = self.sink.put(key.into_owned(), event.to_owned());
                self.runtime.block_on(put)
            }
            Err(reason) => Err(PutError::Failed(reason)),
        }
    }
}

fn report(number: u64, reason: &str) {
    output::report(&format!("line {number}: {reason}"));
}

/// The put that a line is, or what it is instead.
fn decode_line(line: &Line) -> Result<Put<'_>, String> {
    let text = line.text().map_err(|error| error.to_string())?;
    // The text is one line: which one in the file is told before this.
    decode(text).map_err(|error| error.to_string().replace("line 1 column", "column"))
}

/// The input and its size, as far as that is known.
fn open(path: &Path, store: &Store) -> Result<(Box<dyn BufRead>, Option<u64>)> {
    let is_stdin = path == Path::new(STDIN);
    let file = if is_stdin {
        Path::new(STDIN_PATH)
    } else {
        path
    };
    if (!is_stdin || file.exists())
        && let Some(role) = database_role(file)?
    {
        bail!(
            "{} is {role}, no lines of JSON: `alldata-peer export` makes those of a store",
            file.display()
        );
    }
    if let Store::Sqlite(store) = store
        && let (Ok(input), Ok(store)) = (canonicalize(file), canonicalize(store))
    {
        ensure!(input != store, "{} is the store itself", path.display());
    }
    if is_stdin {
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
