//! Millions of puts, to check that neither their cost nor the server's memory grows.

use std::fmt::Write as _;

use anyhow::Result;
use clap::Args;

use crate::goals::FLAT;
use crate::report;
use crate::results::{EVENT_BYTES, Load};
use crate::running::Running;
use crate::server::Server;
use crate::spread::Spread;
use crate::throughput::Sample;
use crate::tools::Tools;
use crate::wrk;

/// The approximate number of puts in one step.
const STEP_PUTS: f64 = 1e6;

/// The number of puts.
#[derive(Debug, Args)]
pub(crate) struct Endurance {
    /// How many are put into a SQLite file; 0 leaves this out
    #[arg(long, default_value_t = 10_000_000)]
    sqlite_puts: u64,
    /// How many are put into the sink `discard:`; 0 leaves this out
    #[arg(long, default_value_t = 5_000_000)]
    discard_puts: u64,
}

/// The measurements of about a million puts.
pub(crate) struct Step {
    server: Server,
    /// The number of puts so far.
    puts: u64,
    cpu_micros: f64,
    puts_per_second: f64,
    memory: u64,
    store: u64,
}

impl Endurance {
    /// The steps of all servers, one server after the other.
    pub(crate) fn run(&self, tools: &Tools) -> Result<Vec<Vec<Step>>> {
        [
            (Server::PeerSqlite, self.sqlite_puts),
            (Server::PeerDiscard, self.discard_puts),
        ]
        .into_iter()
        .filter(|(_, puts)| *puts > 0)
        .map(|(server, puts)| endure(tools, server, puts))
        .collect()
    }
}

fn endure(tools: &Tools, server: Server, puts: u64) -> Result<Vec<Step>> {
    let load = Load::of_events(EVENT_BYTES[0]);
    let mut running = server.start(tools)?;
    running.put(tools, "key")?;
    // wrk runs for a time, not for a number of puts, so the duration is derived from the previous step.
    let mut last = wrk::run(tools, &running, load, 1)?;
    let mut done = last.puts;
    let mut steps = Vec::new();
    while done < puts {
        let wanted = STEP_PUTS.min((puts - done) as f64);
        let seconds = (wanted / last.puts_per_second).ceil().max(1.0) as u64;
        let sample = Sample::take(tools, &mut running, load, seconds)?;
        last = sample.report;
        done += last.puts;
        let step = Step::of(server, done, &sample, &running)?;
        eprintln!(
            "{}: {done} puts, {:.2} µs each",
            server.name(),
            step.cpu_micros
        );
        steps.push(step);
    }
    Ok(steps)
}

impl Step {
    fn of(server: Server, puts: u64, sample: &Sample, running: &Running) -> Result<Self> {
        Ok(Self {
            server,
            puts,
            cpu_micros: sample.cpu_micros,
            puts_per_second: sample.report.puts_per_second,
            memory: running.memory()?.resident,
            store: running.store_bytes()?,
        })
    }
}

/// A table for each server, with the change from its first step to its last.
pub(crate) fn markdown(series: &[Vec<Step>]) -> String {
    series.iter().map(|steps| of_server(steps)).collect()
}

fn of_server(steps: &[Step]) -> String {
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
        return String::new();
    };
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let rows = steps.iter().map(|step| {
        vec![
            format!("{:.2}", step.puts as f64 / 1e6),
            format!("{:.2}", step.cpu_micros),
            format!("{:.0}", step.puts_per_second),
            format!("{:.1}", megabytes(step.memory)),
            format!("{:.0}", megabytes(step.store)),
        ]
    });
    let header = [
        "million puts so far",
        "CPU per put, µs",
        "puts per second",
        "memory, MB",
        "store, MB",
    ];
    let costs: Vec<f64> = steps.iter().map(|step| step.cpu_micros).collect();
    let flatness = Spread::of(&costs).map_or(1.0, |costs| costs.greatest / costs.least);
    let growth = megabytes(last.memory) - megabytes(first.memory);
    format!(
        "## {}\n\n{}\nDearest step / cheapest: {flatness:.2}, goal at most {FLAT}. Memory from the \
         first step to the last: {growth:+.1} MB.\n\n",
        first.server.name(),
        report::table(&header.map(String::from), rows)
    )
}

/// The steps of all servers as CSV.
pub(crate) fn csv(series: &[Vec<Step>]) -> String {
    let mut csv =
        "server,puts,cpu_micros_per_put,puts_per_second,memory_bytes,store_bytes\n".to_owned();
    for step in series.iter().flatten() {
        let _ = writeln!(
            csv,
            "\"{}\",{},{:.3},{:.0},{},{}",
            step.server.name(),
            step.puts,
            step.cpu_micros,
            step.puts_per_second,
            step.memory,
            step.store
        );
    }
    csv
}

#[cfg(test)]
mod tests {
    use super::{Step, csv, markdown};
    use crate::server::Server;

    #[test]
    fn growth_is_from_the_first_step_to_the_last() {
        let step = |puts, cpu_micros, memory| Step {
            server: Server::PeerDiscard,
            puts,
            cpu_micros,
            puts_per_second: 90_000.0,
            memory,
            store: 0,
        };
        let series = [vec![
            step(1_000_000, 10.0, 20_000_000),
            step(2_000_000, 12.0, 20_500_000),
        ]];
        let text = markdown(&series);
        let change = "Dearest step / cheapest: 1.20, goal at most 1.1. \
                      Memory from the first step to the last: +0.5 MB.";
        assert!(text.contains(change), "{text}");
        let row = "\"alldata-peer, discard\",2000000,12.000,90000,20500000,0";
        assert_eq!(csv(&series).lines().nth(2), Some(row));
    }
}
