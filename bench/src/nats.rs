//! Puts into a stream of NATS that three servers keep, beside publishing to such a stream without a
//! peer.
//!
//! All of them share this machine, as the load does. Rounds are interleaved, and each begins with a
//! stream of its own.

#[path = "../../tests/nats/cluster.rs"]
#[allow(dead_code, reason = "what makes faults is for the tests")]
mod cluster;
#[path = "../../tests/nats/link.rs"]
#[allow(dead_code, reason = "what makes faults is for the tests")]
mod link;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alldata_peer_server_http::nats::NatsUrl;
use alldata_peer_server_http::sinks::NatsSink;
use anyhow::{Context as _, Result};
use async_nats::HeaderMap;
use async_nats::jetstream::{self, Context};
use clap::Args;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::results::{EVENT_BYTES, Figure, Load, Results};
use crate::server::Server;
use crate::throughput::Sample;
use crate::tools::Tools;
use cluster::{Cluster, no_nats_server};

/// How many servers keep each event.
const NODES: usize = 3;

/// How many puts are in flight.
const IN_FLIGHT: usize = 256;

/// Those that are compared.
pub(crate) const SERVERS: [Server; 2] = [Server::NatsAlone, Server::PeerNats];

/// The subject of all events.
const SUBJECT: &str = "alldata";

/// How long and how often they are loaded.
#[derive(Debug, Args)]
pub(crate) struct Nats {
    /// How often peers on NATS are measured; 0 leaves this out
    #[arg(long, default_value_t = 5)]
    nats_rounds: u32,
    /// How long each is measured each time
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    nats_seconds: u64,
}

/// The load of both.
pub(crate) fn load() -> Load {
    Load::on_connections(IN_FLIGHT)
}

impl Nats {
    pub(crate) fn measure(&self, tools: &Tools, results: &mut Results) -> Result<()> {
        if let Some(reason) = no_nats_server() {
            eprintln!("{reason}: what needs it is left out");
            return Ok(());
        }
        if self.nats_rounds == 0 {
            return Ok(());
        }
        let cluster = Cluster::start(NODES, "");
        let runtime = Runtime::new()?;
        for round in 1..=self.nats_rounds {
            eprintln!("round {round} of {}: NATS", self.nats_rounds);
            // What runs first changes from round to round.
            let mut servers = SERVERS;
            servers.rotate_left(round as usize % SERVERS.len());
            for server in servers {
                let stream = format!("round{round}");
                let measured = match server {
                    Server::PeerNats => self.measure_peer(tools, &cluster, &stream, results),
                    _ => runtime.block_on(self.measure_alone(&cluster, &stream, results)),
                };
                measured.with_context(|| format!("cannot measure {}", server.name()))?;
                // Both streams have the same subjects, and no round has to do with those before.
                runtime.block_on(delete(&cluster, &stream))?;
            }
        }
        Ok(())
    }

    fn measure_peer(
        &self,
        tools: &Tools,
        cluster: &Cluster,
        stream: &str,
        results: &mut Results,
    ) -> Result<()> {
        let mut running = Server::start_with_sink(tools, &url(cluster, stream))?;
        running.put("key")?;
        let sample = Sample::take(tools, &mut running, load(), self.nats_seconds)?;
        for (figure, value) in [
            (Figure::Cpu, sample.cpu_micros),
            (Figure::Rate, sample.report.puts_per_second),
            (Figure::P50, sample.report.p50_millis),
            (Figure::P99, sample.report.p99_millis),
        ] {
            results.add(Server::PeerNats, load(), figure, value);
        }
        Ok(())
    }

    /// The same messages into the same kind of stream, each sent once the one before it is
    /// acknowledged, by as many tasks as puts are in flight.
    async fn measure_alone(
        &self,
        cluster: &Cluster,
        stream: &str,
        results: &mut Results,
    ) -> Result<()> {
        let url: NatsUrl = url(cluster, stream).parse()?;
        // It makes the stream as a peer does.
        drop(NatsSink::connect(&url).await?);
        let context = connect(cluster).await?;
        let (start, time) = (Instant::now(), Duration::from_secs(self.nats_seconds));
        let next = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..IN_FLIGHT {
            let (context, next) = (context.clone(), Arc::clone(&next));
            let stream = stream.to_owned();
            tasks.spawn(async move {
                let mut acknowledged = 0_u64;
                while start.elapsed() < time {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    publish(&context, &stream, number).await?;
                    acknowledged += 1;
                }
                anyhow::Ok(acknowledged)
            });
        }
        let mut acknowledged = 0;
        while let Some(task) = tasks.join_next().await {
            acknowledged += task??;
        }
        let rate = acknowledged as f64 / start.elapsed().as_secs_f64();
        results.add(Server::NatsAlone, load(), Figure::Rate, rate);
        Ok(())
    }
}

async fn publish(context: &Context, stream: &str, number: u64) -> Result<()> {
    let mut headers = HeaderMap::new();
    headers.insert("Alldata-Digest", "0".repeat(64).as_str());
    headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
    headers.insert("Nats-Expected-Stream", stream);
    let subject = format!("{SUBJECT}.20261125T{number:018}");
    let event = format!("\"{}\"", "x".repeat(EVENT_BYTES[0] - 2));
    let sent = context.publish_with_headers(subject, headers, event.into());
    sent.await?.await?;
    Ok(())
}

fn url(cluster: &Cluster, stream: &str) -> String {
    format!(
        "nats://{}/{stream}?replicas={NODES}&subject={SUBJECT}",
        cluster.hosts()
    )
}

async fn connect(cluster: &Cluster) -> Result<Context> {
    let servers = cluster.hosts();
    let servers: Result<Vec<async_nats::ServerAddr>, _> =
        servers.split(',').map(str::parse).collect();
    Ok(jetstream::new(async_nats::connect(servers?).await?))
}

async fn delete(cluster: &Cluster, stream: &str) -> Result<()> {
    connect(cluster).await?.delete_stream(stream).await?;
    Ok(())
}
