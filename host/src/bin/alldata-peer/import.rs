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
use alldata_peer_server_http::store::database_role;
use alldata_peer_server_http::{PutError, PutSink as _, sinks};
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

/// Puts every line of a file.
pub(crate) fn import(arguments: &Import) -> Result<()> {
    let store = Store::parse(&arguments.store.url)?;
    let (input, bytes) = open(&arguments.input, &store)?;
    // Beside this thread, which reads the file, a connection has to be kept.
    let runtime = Runtime::new().context("cannot start the runtime")?;
    let sink = runtime.block_on(sinks::open(&arguments.store.url))?;
    let mut target = Target {
        reader: Reader::open(&arguments.store.url)?,
        sink,
        runtime,
        in_flight: None,
    };
    let bar = progress_bar(bytes);
    let mut lines = Lines::new(input);
    let mut summary = ImportSummary::default();
    let result = loop {
        match lines.next_batch() {
            Ok(batch) if batch.is_empty() => break Ok(()),
            Ok(batch) => {
                bar.inc(batch.iter().map(Line::bytes).sum());
                if let Err(error) = target.put_all(&batch, &mut summary) {
                    break Err(error);
                }
            }
            Err(error) => {
                let file = arguments.input.display();
                break Err(Error::new(error).context(format!("cannot read {file}")));
            }
        }
    };
    let result = result.and(target.settle(&mut summary));
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
    /// The last batch: while the store writes it, the next one is read.
    in_flight: Option<Batch>,
}

/// A batch whose puts have begun.
struct Batch {
    /// The lines that are no puts, with the reasons.
    bad: Vec<(u64, String)>,
    /// The lines and keys of the others.
    puts: Vec<(u64, String)>,
    /// The keys that had no event before.
    free: HashSet<String>,
    results: JoinHandle<Vec<Result<(), PutError>>>,
}

impl Target {
    /// Begins to put these lines, and waits for those of the call before.
    fn put_all(&mut self, lines: &[Line], summary: &mut ImportSummary) -> Result<()> {
        let (mut bad, mut puts) = (Vec::new(), Vec::with_capacity(lines.len()));
        let mut events = Vec::with_capacity(lines.len());
        for line in lines {
            match decode_line(line) {
                Ok(Put { key, event }) => {
                    puts.push((line.number(), key.into_owned()));
                    events.push(event.to_owned());
                }
                Err(reason) => bad.push((line.number(), reason)),
            }
        }
        let keys: Vec<&str> = puts.iter().map(|(_, key)| &**key).collect();
        // Of two lines with the same key the first one is put first.
        let last = self.in_flight.as_ref();
        if last.is_some_and(|last| keys.iter().any(|key| last.free.contains(*key))) {
            self.settle(summary)?;
        }
        let held = self.reader.contains(&keys)?;
        let free = keys.iter().zip(held).filter(|(_, is_held)| !is_held);
        let free = free.map(|(key, _)| (*key).to_owned()).collect();
        let records: Vec<_> = puts
            .iter()
            .map(|(_, key)| key.clone())
            .zip(events)
            .collect();
        let sink = self.sink.clone();
        let results = self.runtime.spawn(async move {
            let puts = records.into_iter().map(|(key, event)| sink.put(key, event));
            join_all(puts).await
        });
        self.settle(summary)?;
        self.in_flight = Some(Batch {
            bad,
            puts,
            free,
            results,
        });
        Ok(())
    }

    /// Waits for the batch that is in flight, if there is one, and tells what became of its lines.
    fn settle(&mut self, summary: &mut ImportSummary) -> Result<()> {
        let Some(mut batch) = self.in_flight.take() else {
            return Ok(());
        };
        for (number, reason) in &batch.bad {
            summary.bad += 1;
            report(*number, reason);
        }
        let results = self.runtime.block_on(batch.results);
        let results = results.context("the puts did not complete")?;
        for ((number, key), result) in batch.puts.iter().zip(results) {
            match result {
                Ok(()) if batch.free.remove(key) => summary.new += 1,
                Ok(()) => summary.present += 1,
                Err(error) => {
                    match error {
                        PutError::Conflict => summary.conflicting += 1,
                        _ => summary.not_stored += 1,
                    }
                    report(*number, &format!("{key:?}: {error}"));
                }
            }
        }
        Ok(())
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
