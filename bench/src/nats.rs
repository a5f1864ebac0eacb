//! Puts into a stream of NATS with three replicas, compared with publishing to such a stream without a peer.
//!
//! Once with all processes on all processors, where a peer and its load generator compete with the
//! nats-servers, and once with the nats-servers on processors of their own, as if they ran on machines of their
//! own. Rounds are interleaved, and each measurement has its own stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alldata_peer_server_http::sinks::NatsSink;
use alldata_peer_server_http::sinks::nats::NatsUrl;
use alldata_peer_test_support::nats::cluster::Cluster;
use alldata_peer_test_support::nats::node::no_nats_server;
use anyhow::{Context as _, Result};
use async_nats::HeaderMap;
use async_nats::jetstream::{self, Context};
use clap::Args;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::results::{EVENT_BYTES, Figure, Load, Results};
use crate::server::Server;
use crate::throughput::Sample;
use crate::tools::Tools;
use crate::wrk;

/// The number of replicas of each event.
const NODES: usize = 3;

/// The number of puts in flight.
const IN_FLIGHT: usize = 256;

/// The processors of the nats-servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// All processors, shared with everything else.
    Shared,
    /// The first half of them; everything else has the other half.
    SeparateCores,
}

/// All layouts.
pub(crate) const LAYOUTS: [Layout; 2] = [Layout::Shared, Layout::SeparateCores];

impl Layout {
    /// The compared publishers: a peer, its native twin, a client that publishes to any server, and a client that
    /// publishes to the leader.
    pub(crate) fn servers(self) -> [Server; 4] {
        match self {
            Self::Shared => [
                Server::PeerNats,
                Server::TwinNats,
                Server::NatsAlone,
                Server::NatsAloneAtLeader,
            ],
            Self::SeparateCores => [
                Server::PeerNatsSeparateCores,
                Server::TwinNatsSeparateCores,
                Server::NatsAloneSeparateCores,
                Server::NatsAloneAtLeaderSeparateCores,
            ],
        }
    }
}

/// The warm-up of each.
const WARM_UP_SECONDS: u64 = 1;

/// The subject prefix of all events.
const SUBJECT: &str = "alldata";

/// The duration and the number of rounds.
#[derive(Debug, Args)]
pub(crate) struct Nats {
    /// How often peers on NATS are measured; 0 leaves this out
    #[arg(long, default_value_t = 5)]
    nats_rounds: u32,
    /// The seconds of each measurement
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    nats_seconds: u64,
}

/// The load of all measurements.
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
        let all = sched_getaffinity(None)?;
        let processors: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|it| all.is_set(*it)).collect();
        let (for_nats, for_others) = processors.split_at(processors.len() / 2);
        for layout in LAYOUTS {
            let [for_nats, for_others] = match layout {
                Layout::Shared => [&processors[..]; 2],
                Layout::SeparateCores if for_nats.is_empty() => {
                    eprintln!("there is one processor: nothing is on others");
                    continue;
                }
                Layout::SeparateCores => [for_nats, for_others],
            };
            eprintln!("NATS on the processors {for_nats:?}, all else on {for_others:?}");
            // A child process inherits the processors of the thread that starts it.
            run_on(for_nats)?;
            let cluster = Cluster::start_unlinked(NODES, "");
            run_on(for_others)?;
            let measured = self.measure_layout(layout, tools, &cluster, results);
            run_on(&processors)?;
            measured?;
        }
        Ok(())
    }

    fn measure_layout(
        &self,
        layout: Layout,
        tools: &Tools,
        cluster: &Cluster,
        results: &mut Results,
    ) -> Result<()> {
        let runtime = Runtime::new()?;
        let [peer, twin, alone, _] = layout.servers();
        for round in 1..=self.nats_rounds {
            eprintln!("round {round} of {}: NATS, {layout:?}", self.nats_rounds);
            // The order changes from round to round.
            let mut servers = layout.servers();
            let first = round as usize % servers.len();
            servers.rotate_left(first);
            for server in servers {
                let stream = format!("round{round}");
                let measured = if server == peer || server == twin {
                    self.measure_server(tools, cluster, &stream, server, results)
                } else {
                    let at_leader = server != alone;
                    let measuring = self.measure_alone(cluster, &stream, at_leader);
                    let rate = runtime.block_on(measuring);
                    rate.map(|rate| results.add(server, load(), Figure::Rate, rate))
                };
                measured.with_context(|| format!("cannot measure {}", server.name()))?;
                // All streams have the same subjects, and the earlier one is not needed.
                runtime.block_on(delete(cluster, &stream))?;
            }
        }
        Ok(())
    }

    fn measure_server(
        &self,
        tools: &Tools,
        cluster: &Cluster,
        stream: &str,
        server: Server,
        results: &mut Results,
    ) -> Result<()> {
        let mut running = server.start_with_sink(tools, &url(cluster, stream))?;
        running.put(tools, "key")?;
        wrk::run(tools, &running, load(), WARM_UP_SECONDS)?;
        let sample = Sample::take(tools, &mut running, load(), self.nats_seconds)?;
        for (figure, value) in [
            (Figure::Cpu, sample.cpu_micros),
            (Figure::Rate, sample.report.puts_per_second),
            (Figure::P50, sample.report.p50_millis),
            (Figure::P99, sample.report.p99_millis),
        ] {
            results.add(server, load(), figure, value);
        }
        Ok(())
    }

    /// Publishes the same messages to a stream of the same kind, each when the previous one is acknowledged,
    /// from as many tasks as puts are in flight.
    async fn measure_alone(&self, cluster: &Cluster, stream: &str, at_leader: bool) -> Result<f64> {
        let url: NatsUrl = url(cluster, stream).parse()?;
        // It creates the stream as a peer does.
        drop(NatsSink::connect(&url).await?);
        let servers = match at_leader {
            true => {
                let leader = cluster.leader(stream).context("the stream has no leader")?;
                cluster.address(leader).to_string()
            }
            false => cluster.hosts(),
        };
        let context = connect(&servers).await?;
        let next = Arc::new(AtomicU64::new(0));
        publish_for(WARM_UP_SECONDS, &context, stream, &next).await?;
        publish_for(self.nats_seconds, &context, stream, &next).await
    }
}

/// Publishes for some seconds, and returns the number of acknowledged messages per second.
async fn publish_for(
    seconds: u64,
    context: &Context,
    stream: &str,
    next: &Arc<AtomicU64>,
) -> Result<f64> {
    let (start, time) = (Instant::now(), Duration::from_secs(seconds));
    let mut tasks = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (context, next) = (context.clone(), Arc::clone(next));
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
    Ok(acknowledged as f64 / start.elapsed().as_secs_f64())
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

async fn connect(servers: &str) -> Result<Context> {
    let servers: Result<Vec<async_nats::ServerAddr>, _> =
        servers.split(',').map(str::parse).collect();
    Ok(jetstream::new(async_nats::connect(servers?).await?))
}

async fn delete(cluster: &Cluster, stream: &str) -> Result<()> {
    connect(&cluster.hosts())
        .await?
        .delete_stream(stream)
        .await?;
    Ok(())
}

/// Restricts this thread, and the processes that it starts from now on, to these processors.
fn run_on(processors: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for processor in processors {
        set.set(*processor);
    }
    Ok(sched_setaffinity(None, &set)?)
}
