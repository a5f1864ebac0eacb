//! The cost of a put with few connections and with many.

use anyhow::Result;
use clap::Args;

use crate::results::{Figure, Load, Results};
use crate::server::Server;
use crate::throughput::Sample;
use crate::tools::Tools;
use crate::wrk;

/// The compared servers.
pub(crate) const SERVERS: [Server; 2] = [Server::TwinDiscard, Server::PeerDiscard];

/// The numbers of connections.
pub(crate) const CONNECTIONS: [usize; 5] = [1, 8, 64, 256, 1000];

/// The duration and the number of rounds.
#[derive(Debug, Args)]
pub(crate) struct Sweep {
    /// How often each number of connections is measured; 0 leaves this out
    #[arg(long, default_value_t = 3)]
    sweep_rounds: u32,
    /// The seconds of each measurement
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    sweep_seconds: u64,
}

impl Sweep {
    pub(crate) fn measure(&self, tools: &Tools, results: &mut Results) -> Result<()> {
        for round in 1..=self.sweep_rounds {
            eprintln!(
                "round {round} of {}: {CONNECTIONS:?} connections",
                self.sweep_rounds
            );
            for load in CONNECTIONS.map(Load::on_connections) {
                for server in SERVERS {
                    let mut running = server.start(tools)?;
                    running.put(tools, "key")?;
                    wrk::run(tools, &running, load, 1)?;
                    let sample = Sample::take(tools, &mut running, load, self.sweep_seconds)?;
                    results.add(server, load, Figure::CpuInSweep, sample.cpu_micros);
                }
            }
        }
        Ok(())
    }
}
