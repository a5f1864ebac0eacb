//! The p99 latency at half of the highest rate, where no server is at its limit, and the cost of a put there:
//! an idle server has to be woken for each request, and wakes its client for each response.

use anyhow::Result;
use clap::Args;

use crate::oha;
use crate::results::{EVENT_BYTES, Figure, Load, Results};
use crate::server::Server;
use crate::tools::Tools;

/// The compared servers. Both get the same rate, half of the highest rate of the second.
pub(crate) const SERVERS: [Server; 2] = [Server::TwinDiscard, Server::PeerDiscard];

/// The duration and the number of rounds at that rate.
#[derive(Debug, Args)]
pub(crate) struct Latency {
    /// How often both servers get a fixed rate; 0 leaves this out
    #[arg(long, default_value_t = 5)]
    rate_rounds: u32,
    /// The seconds of each measurement
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    rate_seconds: u64,
}

impl Latency {
    pub(crate) fn measure(&self, tools: &Tools, results: &mut Results) -> Result<()> {
        let load = Load::of_events(EVENT_BYTES[0]);
        let highest = results.spread(Server::PeerDiscard, load, Figure::Rate);
        let (Some(oha), Some(highest)) = (&tools.oha, highest) else {
            return Ok(());
        };
        let rate = highest.median / 2.0;
        for round in 1..=self.rate_rounds {
            eprintln!("round {round} of {}: {rate:.0} puts/s", self.rate_rounds);
            for server in SERVERS {
                let mut running = server.start(tools)?;
                running.put(tools, "key")?;
                oha::run(oha, running.address(), load, rate, 1)?;
                let before = running.cpu_seconds()?;
                let report = oha::run(oha, running.address(), load, rate, self.rate_seconds)?;
                running.check()?;
                let cpu_micros = (running.cpu_seconds()? - before) * 1e6 / report.puts as f64;
                results.add(server, load, Figure::CpuAtRate, cpu_micros);
                results.add(server, load, Figure::P99AtRate, report.p99_millis);
                results.add(server, load, Figure::RateReached, report.puts_per_second);
            }
        }
        Ok(())
    }
}
