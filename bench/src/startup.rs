//! The time from the start of a process to its first 201.

use anyhow::Result;
use clap::Args;

use crate::results::{EVENT_BYTES, Figure, Load, Results};
use crate::running::Running;
use crate::server::Server;
use crate::tools::Tools;

/// The servers, with compiled components from before.
pub(crate) const SERVERS: [Server; 4] = [
    Server::TwinDiscard,
    Server::PeerDiscard,
    Server::Node,
    Server::Wasmtime,
];

/// The servers that compile a component, which are also started without one from before.
pub(crate) const COMPILING: [Server; 2] = [Server::PeerDiscard, Server::Wasmtime];

/// How often servers are started.
#[derive(Debug, Args)]
pub(crate) struct Startup {
    /// How often each server is started; 0 leaves this out
    #[arg(long, default_value_t = 20)]
    starts: u32,
}

impl Startup {
    pub(crate) fn measure(&self, tools: &Tools, results: &mut Results) -> Result<()> {
        eprintln!("{} starts", self.starts);
        let mut add = |server, figure, running: Running| {
            running.put(tools, "key")?;
            let millis = running.age().as_secs_f64() * 1e3;
            results.add(server, load(), figure, millis);
            anyhow::Ok(())
        };
        let (servers, compiling) = (present(&SERVERS, tools), present(&COMPILING, tools));
        for server in &servers {
            // So that the compiled component exists.
            server.start(tools)?.put(tools, "key")?;
        }
        for _ in 0..self.starts {
            for server in &servers {
                add(*server, Figure::Start, server.start(tools)?)?;
            }
            for server in &compiling {
                let cache = tempfile::tempdir_in(tools.scratch.path())?;
                let running = server.start_with_cache(tools, cache.path())?;
                add(*server, Figure::ColdStart, running)?;
            }
        }
        Ok(())
    }
}

/// The label of the results: one put on one connection.
pub(crate) fn load() -> Load {
    Load {
        event_bytes: EVENT_BYTES[0],
        connections: 1,
    }
}

fn present(servers: &[Server], tools: &Tools) -> Vec<Server> {
    let servers = servers.iter().copied();
    servers.filter(|server| server.is_there(tools)).collect()
}
