//! Measures AllData peer servers side by side on one machine.
//!
//! It makes no assertions about time: it fails only if a server does not do the work. The load generators are
//! wrk and oha, which are independent of this project; only the soak test has its own, since it has to know
//! which put each 201 was for.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a report on standard output, and how far it is on standard error"
)]

mod client;
mod interface;
mod key_value;
mod port;
mod process;
mod running;
mod server;
mod tools;

mod oha;
mod wrk;

mod results;
mod spread;

mod conflicts;
mod largest;
mod latency;
mod nats;
mod startup;
mod sweep;
mod throughput;
mod transfer;
mod waiting;

mod chart;
mod endurance;
mod goals;
mod machine;
mod report;

mod soak;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};

use crate::conflicts::Conflicts;
use crate::endurance::Endurance;
use crate::largest::Largest;
use crate::latency::Latency;
use crate::nats::Nats;
use crate::results::Results;
use crate::soak::Soak;
use crate::startup::Startup;
use crate::sweep::Sweep;
use crate::throughput::Throughput;
use crate::tools::Tools;
use crate::transfer::Transfer;

/// Measures AllData peer servers side by side.
#[derive(Debug, Parser)]
struct Arguments {
    /// Directory for the results as CSV and as a chart
    #[arg(
        long,
        value_name = "DIR",
        default_value = "target/bench",
        global = true
    )]
    output: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compare all servers
    Compare(Compare),
    /// Put millions of events, and check that cost and memory do not grow
    Endurance(Endurance),
    /// Load a server for a long time with kills, and check that nothing is lost or grows
    Soak(Soak),
}

#[derive(Debug, Args)]
struct Compare {
    #[command(flatten)]
    throughput: Throughput,
    #[command(flatten)]
    latency: Latency,
    #[command(flatten)]
    sweep: Sweep,
    #[command(flatten)]
    startup: Startup,
    #[command(flatten)]
    conflicts: Conflicts,
    #[command(flatten)]
    largest: Largest,
    #[command(flatten)]
    transfer: Transfer,
    #[command(flatten)]
    nats: Nats,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let output = arguments.output;
    fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    let tools = Tools::find()?;
    println!("{}", machine::describe(&tools));
    match arguments.command {
        Command::Compare(compare) => {
            let mut results = Results::default();
            let measured = compare.run(&tools, &mut results);
            // The results so far, also if a measurement failed.
            println!("{}", report::markdown(&results));
            fs::write(output.join("performance.csv"), results.csv())?;
            fs::write(output.join("performance.svg"), chart::svg(&results)?)?;
            measured?;
        }
        Command::Endurance(endurance) => {
            let series = endurance.run(&tools)?;
            println!("{}", endurance::markdown(&series));
            fs::write(output.join("endurance.csv"), endurance::csv(&series))?;
        }
        Command::Soak(soak) => {
            let soaked = soak.run(&tools)?;
            println!("{}", soak::markdown(&soaked));
            fs::write(output.join("soak.csv"), soak::csv(soaked.samples()))?;
            fs::write(output.join("soak.svg"), soak::svg(&soaked)?)?;
            soaked.judge()?;
        }
    }
    eprintln!("results are in {}", output.display());
    Ok(())
}

impl Compare {
    fn run(&self, tools: &Tools, results: &mut Results) -> Result<()> {
        self.throughput.measure(tools, results)?;
        self.latency.measure(tools, results)?;
        self.sweep.measure(tools, results)?;
        self.startup.measure(tools, results)?;
        waiting::measure(tools, results)?;
        self.conflicts.measure(tools, results)?;
        self.largest.measure(tools, results)?;
        self.transfer.measure(tools, results)?;
        self.nats.measure(tools, results)
    }
}
