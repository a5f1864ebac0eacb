//! All servers side by side, each at its highest rate.
//!
//! Rounds are interleaved: all servers once, then all once more, so that a slow phase of the machine affects
//! all of them.

use anyhow::{Context as _, Result};
use clap::Args;

use crate::results::{EVENT_BYTES, Figure, Load, Results};
use crate::running::Running;
use crate::server::Server;
use crate::tools::Tools;
use crate::wrk::{self, Report};

/// A megabyte.
const MB: f64 = 1e6;

/// The duration and the number of rounds.
#[derive(Debug, Args)]
pub(crate) struct Throughput {
    /// How often all servers are measured; 0 leaves this out
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// The seconds of each measurement
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// The seconds of load before each measurement
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    warm_up: u64,
}

/// One server under one load, once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) cpu_micros: f64,
    pub(crate) report: Report,
}

impl Throughput {
    pub(crate) fn measure(&self, tools: &Tools, results: &mut Results) -> Result<()> {
        for round in 1..=self.rounds {
            for load in EVENT_BYTES.map(Load::of_events) {
                eprintln!(
                    "round {round} of {}: events of {} bytes",
                    self.rounds, load.event_bytes
                );
                // Each round begins with another server, so that none always follows the same one.
                let first = round as usize % Server::COMPARED.len();
                let servers = Server::COMPARED.iter().cycle().skip(first);
                for server in servers.take(Server::COMPARED.len()).copied() {
                    if server.is_there(tools) {
                        self.measure_one(tools, server, load, results)
                            .with_context(|| format!("cannot measure {}", server.name()))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn measure_one(
        &self,
        tools: &Tools,
        server: Server,
        load: Load,
        results: &mut Results,
    ) -> Result<()> {
        let mut running = server.start(tools)?;
        running.put(tools, "key")?;
        wrk::run(tools, &running, load, self.warm_up)?;
        let sample = Sample::take(tools, &mut running, load, self.seconds)?;
        let memory = running.memory()?;
        for (figure, value) in [
            (Figure::Cpu, sample.cpu_micros),
            (Figure::Rate, sample.report.puts_per_second),
            (Figure::P50, sample.report.p50_millis),
            (Figure::P99, sample.report.p99_millis),
            (Figure::PeakMemory, memory.peak as f64 / MB),
            (Figure::Memory, memory.resident as f64 / MB),
        ] {
            results.add(server, load, figure, value);
        }
        Ok(())
    }
}

impl Sample {
    /// Loads a server for some seconds, and measures it.
    pub(crate) fn take(
        tools: &Tools,
        running: &mut Running,
        load: Load,
        seconds: u64,
    ) -> Result<Self> {
        let before = running.cpu_seconds()?;
        let report = wrk::run(tools, running, load, seconds)?;
        running.check()?;
        let cpu_seconds = running.cpu_seconds()? - before;
        Ok(Self {
            cpu_micros: cpu_seconds * 1e6 / report.puts as f64,
            report,
        })
    }
}
