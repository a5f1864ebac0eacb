//! The cost of puts under a key that already has an event, for small and large stored events.
//!
//! On one connection, one put after the other: only the server's processor time is measured, so that the client
//! does not count.

use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;

use crate::client::Client;
use crate::interface::Interface;
use crate::results::{Figure, Load, Results};
use crate::server::Server;
use crate::tools::Tools;

/// The sizes of stored events in bytes: the largest one leaves room for the rest of a body.
pub(crate) const STORED_BYTES: [usize; 3] = [100, 64 * 1024, 16 * 1024 * 1024 - 1024];

/// The approximate number of bytes sent in one measurement, if the event that is sent is large.
const SENT_BYTES: usize = 256 * 1024 * 1024;

/// The most puts of one measurement.
const MAX_PUTS: usize = 5000;

/// The number of rounds.
#[derive(Debug, Args)]
pub(crate) struct Conflicts {
    /// How often conflicts are measured; 0 leaves this out
    #[arg(long, default_value_t = 3)]
    conflict_rounds: u32,
}

impl Conflicts {
    pub(crate) fn measure(&self, tools: &Tools, results: &mut Results) -> Result<()> {
        for round in 1..=self.conflict_rounds {
            eprintln!("round {round} of {}: conflicts", self.conflict_rounds);
            for stored_bytes in STORED_BYTES {
                measure_one(tools, stored_bytes, results)?;
            }
        }
        Ok(())
    }
}

/// The label of the results for a stored event.
pub(crate) fn load(stored_bytes: usize) -> Load {
    Load {
        event_bytes: stored_bytes,
        connections: 1,
    }
}

fn measure_one(tools: &Tools, stored_bytes: usize, results: &mut Results) -> Result<()> {
    let elements = "1,".repeat(stored_bytes / 2 - 1);
    let stored = format!("[{elements}1]");
    // The last element in another spelling.
    let same_value = format!("[{elements}1.0]");
    let running = Server::PeerSqlite.start(tools)?;
    let mut client = Client::connect(running.address())?;
    put(&mut client, &stored, 201)?;
    let large = SENT_BYTES / stored_bytes;
    for (figures, event, status, puts) in [
        (
            [Figure::CpuOfConflict, Figure::RateOfConflicts],
            "2",
            409,
            MAX_PUTS,
        ),
        (
            [Figure::CpuOfSameBytes, Figure::RateOfSameBytes],
            &*stored,
            201,
            large.min(MAX_PUTS),
        ),
        (
            [Figure::CpuOfSameValue, Figure::RateOfSameValues],
            &*same_value,
            201,
            large.min(MAX_PUTS),
        ),
    ] {
        // The first put of each kind may have to read the stored event.
        put(&mut client, event, status)?;
        let cpu = running.cpu_seconds()?;
        let start = Instant::now();
        for _ in 0..puts {
            put(&mut client, event, status)?;
        }
        let seconds = start.elapsed().as_secs_f64();
        let cpu = running.cpu_seconds()? - cpu;
        let [cpu_figure, rate_figure] = figures;
        let server = Server::PeerSqlite;
        results.add(
            server,
            load(stored_bytes),
            cpu_figure,
            cpu * 1e6 / puts as f64,
        );
        results.add(
            server,
            load(stored_bytes),
            rate_figure,
            puts as f64 / seconds,
        );
    }
    Ok(())
}

/// Puts an event, and checks the status of the response.
fn put(client: &mut Client, event: &str, expected: u16) -> Result<()> {
    let response = client.request(&Interface::Peer.put("stored", event))?;
    ensure!(response.status == expected, "it answered {response:?}");
    Ok(())
}
