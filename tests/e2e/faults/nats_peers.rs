//! Three peers on three nats-servers with their clients, for faults of NATS, and a read of the stream under
//! each leader.
//!
//! Environment variables select the version of the nats-servers and their `sync_interval`.

use std::env;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;

use super::{Clients, History, Load, Outcome, RoundCounts, Rounds, Store, conclude};
use crate::nats::{Cluster, Link, Replicas, STREAM, can_start, is_pinned};
use crate::support::{DEADLINE, Output, Peer, run, wait_until, wait_until_within};

/// The number of nats-servers, and of peers.
pub(super) const NODES: usize = 3;

/// The environment variable with the `sync_interval` of the nats-servers, instead of their default.
const SYNC_INTERVAL: &str = "FAULTS_NATS_SYNC_INTERVAL";

/// How often the replicas are read, with restarts in between.
const READS: usize = 3;

/// The number of puts of each peer that show that it continues after a fault.
const PUTS_AFTER: usize = 50;

/// Plays rounds of a fault under load.
pub(super) fn play(fault: &'static str, round: impl Fn(&mut Peers, &mut History, &mut Rng)) {
    if !can_start(fault) {
        return;
    }
    Rounds::of(fault, 1).play(|rng| -> RoundCounts {
        let cluster = Cluster::start(NODES, &configuration());
        play_one(Peers::of(cluster), rng, &round)
    });
}

/// One round, after which each server must have all acknowledged events.
pub(super) fn play_one(
    mut peers: Peers,
    rng: &mut Rng,
    round: impl Fn(&mut Peers, &mut History, &mut Rng),
) -> RoundCounts {
    let mut history = History::default();
    round(&mut peers, &mut history, rng);
    peers.cluster.wait();
    peers.take_puts();
    read_each_replica(&mut peers.cluster, &mut history);
    let counts = conclude(history, &peers, rng);
    RoundCounts {
        longest_wait: peers.longest_wait,
        ..counts
    }
}

/// The configuration of the servers, from the environment.
pub(super) fn configuration() -> String {
    match env::var(SYNC_INTERVAL) {
        Ok(interval) if !interval.is_empty() => synced(&interval),
        _ => String::new(),
    }
}

/// The configuration line for a `sync_interval`.
pub(super) fn synced(interval: &str) -> String {
    format!("jetstream {{ sync_interval: {interval} }}")
}

/// The URL of the stream. It allows unsafe versions, so that they can be measured.
pub(super) fn store_at(hosts: &str) -> String {
    match is_pinned() {
        true => format!("nats://{hosts}/{STREAM}"),
        false => format!("nats://{hosts}/{STREAM}?unsafe_version=true"),
    }
}

pub(super) fn finish(history: &mut History, all_clients: Vec<Clients>) {
    for clients in all_clients {
        history.add(clients);
    }
}

/// Reads the stream under each server as the leader, and reports how many events each lacks.
pub(super) fn read_each_replica(cluster: &mut Cluster, history: &mut History) {
    let mut replicas = read_replicas(cluster);
    for (node, replica) in replicas.iter_mut().enumerate() {
        replica.retain(is_of_history);
        report_missing(node, history.lacking(replica), history);
    }
    history.read_by(|| replicas);
}

/// The events of each server. nats-server 2.9 elects no leader at times after one has stepped down, until it is started
/// again: then all are, one after the other, on their stores.
fn read_replicas(cluster: &mut Cluster) -> Vec<Vec<(String, String)>> {
    for _ in 0..READS {
        if let Some(replicas) = Replicas::of(cluster).events() {
            return replicas;
        }
        for node in 0..cluster.count() {
            cluster.kill(node);
            cluster.restart(node);
            cluster.wait();
            // The stream may have no leader before all were started again.
            cluster.catches_up(node, STREAM, DEADLINE);
        }
    }
    panic!("the servers cannot be read: a stream gets no leader");
}

#[expect(clippy::print_stdout, reason = "it is for whoever measures")]
fn report_missing(node: usize, lacking: u64, history: &History) {
    if lacking > 0 {
        let all = history.acknowledged_keys().len();
        println!("node{node} lacks {lacking} of {all} keys that were acknowledged");
    }
}

/// All events of a stream, read by the program.
pub(super) fn export(store: &str) -> Vec<(String, String)> {
    let mut events = Vec::new();
    // After the loss of a server nothing can be read until there is a new leader.
    wait_until_within(3 * DEADLINE, "the stream is read", || {
        let output = read("export", store);
        let is_read = output.code == Some(0);
        if is_read {
            events = output.lines_of_events();
        }
        is_read
    });
    events.retain(is_of_history);
    events
}

/// Asserts that `verify` finds nothing wrong with a stream.
pub(super) fn verify(store: &str) {
    let mut output = read("verify", store);
    // Servers that have just reconnected may not know the leader yet.
    wait_until_within(3 * DEADLINE, "the stream can be read", || {
        let is_read = !output.stderr.contains("cannot read the stream");
        if !is_read {
            output = read("verify", store);
        }
        is_read
    });
    output.assert_ok();
}

/// Runs a command that reads. Warnings about an unsafe version or an unreachable server are expected.
fn read(command: &str, store: &str) -> Output {
    let mut output = run(&[command, "--store", store]);
    let is_known = |line: &str| !is_pinned() || line.contains("can't be read");
    if output.code == Some(0) && output.stderr.lines().all(is_known) {
        output.stderr.clear();
    }
    output
}

/// Whether an event is one that no history has put.
fn is_of_history((key, _): &(String, String)) -> bool {
    !key.starts_with("again-")
}

/// Peers that put into one stream.
pub(super) struct Peers {
    pub(super) peers: Vec<Peer>,
    /// One link to each server, shared by all peers.
    pub(super) links: Vec<Link>,
    pub(super) cluster: Cluster,
    /// The time from a fault until all peers continued.
    longest_wait: Duration,
}

impl Peers {
    pub(super) fn of(cluster: Cluster) -> Self {
        let links = (0..NODES).map(|node| Link::to(cluster.address(node)));
        let links = links.collect();
        let mut peers = Self {
            peers: Vec::new(),
            links,
            cluster,
            longest_wait: Duration::ZERO,
        };
        for _ in 0..NODES {
            let peer = peers.serve();
            peers.peers.push(peer);
        }
        peers
    }

    fn store(&self) -> String {
        let addresses = self.links.iter().map(|link| link.address().to_string());
        store_at(&addresses.collect::<Vec<_>>().join(","))
    }

    pub(super) fn serve(&self) -> Peer {
        Peer::builder().sink(&self.store()).start()
    }

    /// Clients for each peer, which already have some responses.
    pub(super) fn start_clients(
        &self,
        history: &mut History,
        name: &str,
        rng: &mut Rng,
    ) -> Vec<Clients> {
        let mut all_clients = Vec::new();
        for (number, address) in self.addresses().into_iter().enumerate() {
            let load = Load::of_own_keys(&format!("{name}-{number}"), rng.usize(1..=8));
            all_clients.push(history.start_clients(address, &load, rng));
        }
        for clients in &all_clients {
            clients.wait_for_answers(rng.usize(1..100));
        }
        Clients::run_for_a_while(rng);
        all_clients
    }

    /// Waits until each peer acknowledges puts that were sent from now on, except for a few.
    pub(super) fn wait_for_puts(&mut self, all_clients: &[Clients]) {
        let start = Instant::now();
        for clients in all_clients {
            clients.forget_outcomes();
        }
        for clients in all_clients {
            clients.wait_for_outcomes(PUTS_AFTER, Outcome::Acknowledged);
        }
        self.longest_wait = self.longest_wait.max(start.elapsed());
    }

    /// Waits until each peer acknowledges puts.
    fn take_puts(&self) {
        for (number, peer) in self.peers.iter().enumerate() {
            let takes = || peer.put(&format!("again-{number}"), "null").status == 201;
            wait_until("puts are taken again", takes);
        }
    }
}

impl Drop for Peers {
    /// Prints the logs of the peers if a round has failed.
    fn drop(&mut self) {
        if thread::panicking() {
            // A peer that has already ended can't be killed.
            let print = |peer| drop(catch_unwind(AssertUnwindSafe(|| print_log(peer))));
            self.peers.iter_mut().for_each(print);
        }
    }
}

#[expect(clippy::print_stdout, reason = "it is for whoever looks for the cause")]
fn print_log(peer: &mut Peer) {
    peer.signal(Signal::KILL);
    peer.wait();
    for line in peer.rest_of_stderr() {
        println!("{}: {line}", peer.address());
    }
}

impl Store for Peers {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.peers.iter().map(Peer::address).collect()
    }

    fn events(&self) -> Vec<(String, String)> {
        export(&self.store())
    }

    fn verify(&self) {
        verify(&self.store());
    }
}
