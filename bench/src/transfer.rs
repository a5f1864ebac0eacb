//! The rates of the commands that read or write a whole store: `import`, `export` and `verify`.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::results::{Figure, Load, Results};
use crate::server::{STORE, Server};
use crate::tools::Tools;

/// The number of events in a store.
const EVENTS: usize = 1_000_000;

/// The size of an event in bytes.
const EVENT_BYTES: usize = 200;

/// The commands, in the order in which they run: `export` and `verify` read what `import` has stored.
pub(crate) const FIGURES: [Figure; 3] =
    [Figure::ImportRate, Figure::ExportRate, Figure::VerifyRate];

/// The number of rounds.
#[derive(Debug, Args)]
pub(crate) struct Transfer {
    /// How often the commands for a whole store are measured; 0 leaves this out
    #[arg(long, default_value_t = 3)]
    transfer_rounds: u32,
}

impl Transfer {
    pub(crate) fn measure(&self, tools: &Tools, results: &mut Results) -> Result<()> {
        if self.transfer_rounds == 0 {
            return Ok(());
        }
        let lines = tools.scratch.path().join("events.ndjson");
        write_events(&lines)?;
        for round in 1..=self.transfer_rounds {
            let rounds = self.transfer_rounds;
            eprintln!("round {round} of {rounds}: import, export and verify");
            measure_one(tools, &lines, results)?;
        }
        Ok(())
    }
}

/// The label of the results.
pub(crate) fn load() -> Load {
    Load {
        event_bytes: EVENT_BYTES,
        connections: 0,
    }
}

fn measure_one(tools: &Tools, lines: &Path, results: &mut Results) -> Result<()> {
    let store = tempfile::tempdir_in(tools.scratch.path())?;
    let url = format!("sqlite:{}", store.path().join(STORE).display());
    let exported = store.path().join("exported.ndjson");
    for figure in FIGURES {
        let mut command = Command::new(&tools.peer);
        match figure {
            Figure::ImportRate => command.arg("import").arg(lines),
            Figure::ExportRate => command.args(["export", "--output"]).arg(&exported),
            _ => command.arg("verify"),
        };
        command.args(["--store", &url]);
        let rate = EVENTS as f64 / seconds(command)?;
        results.add(Server::PeerSqlite, load(), figure, rate);
    }
    let [written, read] = [lines, &exported].map(|file| file.metadata().map(|it| it.len()));
    ensure!(written? == read?, "`export` has not written all events");
    Ok(())
}

/// How long a command takes, which must succeed.
fn seconds(mut command: Command) -> Result<f64> {
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    let seconds = start.elapsed().as_secs_f64();
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {log}");
    Ok(seconds)
}

/// Writes events as `export` does: as lines of JSON, sorted by key.
fn write_events(file: &Path) -> Result<()> {
    let context = || format!("cannot write {}", file.display());
    let mut writer = BufWriter::new(File::create(file).with_context(context)?);
    for number in 0..EVENTS {
        let (start, end) = (format!(r#"{{"number":{number},"text":""#), r#""}"#);
        let text = "x".repeat(EVENT_BYTES - start.len() - end.len());
        writeln!(
            writer,
            r#"{{"key":"key-{number:07}","event":{start}{text}{end}}}"#
        )
        .with_context(context)?;
    }
    writer.flush().with_context(context)
}
