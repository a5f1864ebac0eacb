//! The memory of puts that wait for their sink.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::client::Client;
use crate::results::{Figure, Load, Results};
use crate::running::Running;
use crate::server::Server;
use crate::tools::Tools;

/// The numbers of waiting puts, few and many.
const WAITING: [usize; 2] = [64, 1000];

/// The time-out until they wait.
const DEADLINE: Duration = Duration::from_secs(30);

/// The interval at which their number is checked.
const TICK: Duration = Duration::from_millis(10);

/// Compares the memory with few and with many puts waiting.
pub(crate) fn measure(tools: &Tools, results: &mut Results) -> Result<()> {
    let [few, many] = WAITING;
    eprintln!("{few} and {many} puts waiting");
    let mut running = Server::SlowSink.start(tools)?;
    let mut clients = Vec::new();
    let with_few = resident(&mut running, &mut clients, few)?;
    let with_many = resident(&mut running, &mut clients, many)?;
    let bytes_per_put = (with_many - with_few) / (many - few) as f64;
    results.add(
        Server::SlowSink,
        load(),
        Figure::MemoryOfPut,
        bytes_per_put / 1024.0,
    );
    Ok(())
}

/// The label of the result.
pub(crate) fn load() -> Load {
    Load {
        event_bytes: r#"{"customer":1}"#.len(),
        connections: WAITING[1],
    }
}

/// The resident memory in bytes when this many puts wait.
fn resident(running: &mut Running, clients: &mut Vec<Client>, waiting: usize) -> Result<f64> {
    while clients.len() < waiting {
        clients.push(running.send(&format!("key{}", clients.len()))?);
    }
    let start = Instant::now();
    while running.ask("")?.parse::<usize>()? < waiting {
        ensure!(start.elapsed() < DEADLINE, "not all puts reach the sink");
        thread::sleep(TICK);
    }
    Ok(running.memory()?.resident as f64)
}
