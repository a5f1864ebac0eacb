//! One stream that two peers create at the same moment: both recognize it, under each leader.
//!
//! The peers run in one process, so that the creations do coincide.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use alldata_peer_server_http::PeerServer;
use alldata_peer_server_http::sinks::NatsSink;
use alldata_peer_server_http::sinks::nats::NatsUrl;
use fastrand::Rng;
use tokio::runtime::Runtime;

use super::nats_peers::{
    NODES, configuration, export, finish, read_each_replica, store_at, verify,
};
use super::{Clients, History, Load, Outcome, RoundCounts, Rounds, Store, conclude};
use crate::nats::{Cluster, Replicas, can_start};
use crate::support::Embedded;

/// How long puts continue after a change of the leader: peers check the stream every 10 s.
const TIME_FOR_A_LOOK: Duration = Duration::from_secs(12);

#[test]
fn two_peers_create_the_stream_at_once() {
    let fault = "nats_identity::two_peers";
    if can_start(fault) {
        Rounds::of(fault, 1).play(round);
    }
}

fn round(rng: &mut Rng) -> RoundCounts {
    let mut peers = Creators::start();
    let mut history = History::default();
    let mut all_clients = Vec::new();
    for (number, address) in peers.addresses().into_iter().enumerate() {
        let load = Load::of_own_keys(&format!("made-{number}"), rng.usize(1..=4));
        all_clients.push(history.start_clients(address, &load, rng));
    }
    wait_for_puts(&all_clients);
    let replicas = Replicas::of(&peers.cluster);
    let first = replicas.leader();
    for next in 1..NODES {
        replicas.lead((first + next) % NODES);
        wait_for_puts(&all_clients);
    }
    let start = Instant::now();
    while start.elapsed() < TIME_FOR_A_LOOK {
        wait_for_puts(&all_clients);
    }
    finish(&mut history, all_clients);
    read_each_replica(&mut peers.cluster, &mut history);
    conclude(history, &peers, rng)
}

fn wait_for_puts(all_clients: &[Clients]) {
    for clients in all_clients {
        clients.forget_outcomes();
        clients.wait_for_outcomes(20, Outcome::Acknowledged);
    }
}

/// Peers that each found no stream.
struct Creators {
    peers: Vec<Embedded>,
    store: String,
    _runtime: Runtime,
    cluster: Cluster,
}

impl Creators {
    fn start() -> Self {
        let cluster = Cluster::start(NODES, &configuration());
        let store = store_at(&cluster.hosts());
        let url: NatsUrl = store.parse().expect("is one");
        let runtime = Runtime::new().expect("starts a runtime");
        let connecting = [NatsSink::connect(&url), NatsSink::connect(&url)];
        let sinks = runtime.block_on(futures_util::future::join_all(connecting));
        let peers = sinks.into_iter().map(|sink| {
            let sink = sink.expect("connects");
            Embedded::start(PeerServer::builder().sink(sink))
        });
        Self {
            peers: peers.collect(),
            store,
            _runtime: runtime,
            cluster,
        }
    }
}

impl Store for Creators {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.peers.iter().map(Embedded::address).collect()
    }

    fn events(&self) -> Vec<(String, String)> {
        export(&self.store)
    }

    fn verify(&self) {
        verify(&self.store);
    }
}
