//! The sink `nats:` and the reader on streams of NATS JetStream, on real nats-servers unless noted.
//!
//! Faults under load are in `faults`.

mod commands;
mod completeness;
mod conflicts;
mod contract;
mod credentials;
mod edges;
mod fake_server;
mod health;
mod identity;
mod peers;
mod probes;
mod quorum;
mod replicas;
mod settings;
mod start;
mod stream_faults;
mod version;

use std::future::Future;

use alldata_peer_test_support::nats::{cluster, disks, link, node};
use async_nats::jetstream::stream::{Config, Info};
use async_nats::jetstream::{self, Context};
use tokio::runtime::Runtime;

pub(crate) use cluster::{Cluster, name as node_name};
pub(crate) use disks::no_disks;
pub(crate) use link::Link;
pub(crate) use node::{is_pinned, no_nats_server};
pub(crate) use replicas::{ELECTION_DEADLINE, Replicas};

use crate::support::{Peer, can_make};

/// The name of the stream.
pub(crate) const STREAM: &str = "events";

/// Whether nats-servers can be started; if not, the test is skipped under this name.
#[track_caller]
pub(crate) fn can_start(what: &str) -> bool {
    can_make(what, no_nats_server())
}

/// A single nats-server.
struct Single {
    cluster: Cluster,
    runtime: Runtime,
}

impl Single {
    fn start() -> Self {
        Self::with("")
    }

    fn with(configuration: &str) -> Self {
        Self {
            cluster: Cluster::start(1, configuration),
            runtime: Runtime::new().expect("starts a runtime"),
        }
    }

    /// The URL of the stream for peers.
    fn url(&self) -> String {
        url(&self.cluster, "replicas=1")
    }

    /// A peer that puts into the stream.
    fn peer(&self) -> Peer {
        Peer::builder().sink(&self.url()).start()
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The client for the administration of streams.
    fn context(&self) -> Context {
        self.block_on(async {
            let client = async_nats::connect(self.cluster.hosts()).await;
            jetstream::new(client.expect("connects"))
        })
    }

    fn info(&self) -> Info {
        let context = self.context();
        self.block_on(info(&context))
    }

    /// Changes the settings of the stream.
    fn update(&self, change: impl FnOnce(&mut Config)) {
        let mut config = self.info().config;
        change(&mut config);
        let context = self.context();
        let updated = self.block_on(context.update_stream(config));
        updated.expect("is updated");
    }

    fn delete(&self) {
        let context = self.context();
        let deleted = self.block_on(context.delete_stream(STREAM));
        deleted.expect("is deleted");
    }
}

/// The URL of the stream of a cluster.
pub(crate) fn url(cluster: &Cluster, parameters: &str) -> String {
    format!("nats://{}/{STREAM}?{parameters}", cluster.hosts())
}

async fn info(context: &Context) -> Info {
    let stream = context.get_stream(STREAM).await.expect("is there");
    stream.cached_info().clone()
}
