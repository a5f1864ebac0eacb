//! A put of the largest event, on one connection: its processor time, and the memory that it takes.

use anyhow::{Result, ensure};
use clap::Args;

use crate::client::Client;
use crate::conflicts::STORED_BYTES;
use crate::interface::Interface;
use crate::results::{Figure, Load, Results};
use crate::server::Server;
use crate::tools::Tools;

/// The compared servers.
pub(crate) const SERVERS: [Server; 2] = [Server::TwinDiscard, Server::PeerDiscard];

/// The number of puts of one measurement: a clock tick of processor time is 10 ms.
const PUTS: usize = 20;

/// The number of rounds.
#[derive(Debug, Args)]
pub(crate) struct Largest {
    /// How often puts of the largest event are measured; 0 leaves this out
    #[arg(long, default_value_t = 5)]
    largest_rounds: u32,
}

impl Largest {
    pub(crate) fn measure(&self, tools: &Tools, results: &mut Results) -> Result<()> {
        for round in 1..=self.largest_rounds {
            eprintln!(
                "round {round} of {}: the largest event",
                self.largest_rounds
            );
            for server in SERVERS {
                measure_one(tools, server, results)?;
            }
        }
        Ok(())
    }
}

/// The label of the results.
pub(crate) fn load() -> Load {
    let [.., event_bytes] = STORED_BYTES;
    Load {
        event_bytes,
        connections: 1,
    }
}

fn measure_one(tools: &Tools, server: Server, results: &mut Results) -> Result<()> {
    let load = load();
    let running = server.start(tools)?;
    running.put(tools, "small")?;
    let before = running.memory()?.resident;
    let event = format!("\"{}\"", "x".repeat(load.event_bytes - 2));
    let request = Interface::Peer.put("largest", &event);
    let mut client = Client::connect(running.address())?;
    let mut put = || {
        let response = client.request(&request)?;
        ensure!(response.status == 201, "it answered {response:?}");
        anyhow::Ok(())
    };
    put()?;
    let cpu = running.cpu_seconds()?;
    for _ in 0..PUTS {
        put()?;
    }
    let cpu = running.cpu_seconds()? - cpu;
    let memory = running.memory()?.peak - before;
    for (figure, value) in [
        (Figure::CpuOfLargest, cpu * 1e3 / PUTS as f64),
        (
            Figure::MemoryOfLargest,
            memory as f64 / load.event_bytes as f64,
        ),
    ] {
        results.add(server, load, figure, value);
    }
    Ok(())
}
