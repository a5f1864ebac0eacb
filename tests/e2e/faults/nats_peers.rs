//! Three peers over three servers with their clients, for faults of NATS, and a read of the stream under each server.
//!
//! The environment selects the version of the servers and their `sync_interval`.

use std::env;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;

use super::{Crowd, History, Load, Outcome, Rounds, Store, Tally, conclude};
use crate::nats::{Cluster, Link, Replicas, STREAM, can_start, is_pinned};
use crate::support::{DEADLINE, Output, Peer, run, wait_until, wait_until_within};

/// How many servers and peers there are.
pub(super) const NODES: usize = 3;

/// The environment variable with the servers' `sync_interval`, where that is not to be their default.
const SYNC_INTERVAL: &str = "FAULTS_NATS_SYNC_INTERVAL";

/// How many puts of each peer show that it goes on after a fault.
const PUTS_AFTER: usize = 50;

/// Plays rounds of a fault under load.
pub(super) fn play(fault: &'static str, round: impl Fn(&mut Peers, &mut History, &mut Rng)) {
    if !can_start(fault) {
        return;
    }
    Rounds::of(fault, 1).play(|rng| -> Tally {
        let cluster = Cluster::start(NODES, &configuration());
        play_one(Peers::of(cluster), rng, &round)
    });
}

/// One round, after which each server has to have all that was acknowledged.
pub(super) fn play_one(
    mut peers: Peers,
    rng: &mut Rng,
    round: impl Fn(&mut Peers, &mut History, &mut Rng),
) -> Tally {
    let mut history = History::default();
    round(&mut peers, &mut history, rng);
    peers.cluster.wait();
    peers.take_puts();
    read_each_replica(&peers.cluster, &mut history);
    let tally = conclude(history, &peers, rng);
    Tally {
        longest_wait: peers.longest_wait,
        ..tally
    }
}

/// What servers are set to, by the environment.
pub(super) fn configuration() -> String {
    match env::var(SYNC_INTERVAL) {
        Ok(interval) if !interval.is_empty() => synced(&interval),
        _ => String::new(),
    }
}

/// What has servers sync so often.
pub(super) fn synced(interval: &str) -> String {
    format!("jetstream {{ sync_interval: {interval} }}")
}

/// The URL of the stream on these servers. Versions that peers refuse are insisted on, to measure them.
pub(super) fn store_at(hosts: &str) -> String {
    match is_pinned() {
        true => format!("nats://{hosts}/{STREAM}"),
        false => format!("nats://{hosts}/{STREAM}?unsafe_version=true"),
    }
}

pub(super) fn finish(history: &mut History, crowds: Vec<Crowd>) {
    for crowd in crowds {
        history.add(crowd);
    }
}

/// Reads what each server has, as the leader, and says which lacks how much.
pub(super) fn read_each_replica(cluster: &Cluster, history: &mut History) {
    let mut replicas = Replicas::of(cluster).events();
    for (node, replica) in replicas.iter_mut().enumerate() {
        replica.retain(is_of_history);
        tell_lacking(node, history.lacking(replica), history);
    }
    history.read_by(|| replicas);
}

#[expect(clippy::print_stdout, reason = "it is for whoever measures")]
fn tell_lacking(node: usize, lacking: u64, history: &History) {
    if lacking > 0 {
        let all = history.acknowledged_keys().len();
        println!("node{node} lacks {lacking} of {all} keys that were acknowledged");
    }
}

/// All events of a stream, as the program reads it.
pub(super) fn export(store: &str) -> Vec<(String, String)> {
    let mut events = Vec::new();
    // Where servers are gone, there is nothing to be read until they have a new leader.
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

/// Holds that the program finds a stream whole.
pub(super) fn verify(store: &str) {
    let mut output = read("verify", store);
    // Servers that have just found one another again may not know yet who leads.
    wait_until_within(3 * DEADLINE, "the stream can be read", || {
        let is_read = !output.stderr.contains("cannot read the stream");
        if !is_read {
            output = read("verify", store);
        }
        is_read
    });
    output.assert_ok();
}

/// Runs a command that reads. What it says of a version that is insisted on is known, and that a server is
/// gone.
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
    /// To each server, for all peers.
    pub(super) links: Vec<Link>,
    pub(super) cluster: Cluster,
    /// From a fault until all peers went on.
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

    /// A crowd for each peer, which has some answers already.
    pub(super) fn crowds(&self, history: &mut History, name: &str, rng: &mut Rng) -> Vec<Crowd> {
        let mut crowds = Vec::new();
        for (number, address) in self.addresses().into_iter().enumerate() {
            let load = Load::of_own_keys(&format!("{name}-{number}"), rng.usize(1..=8));
            crowds.push(history.crowd(address, &load, rng));
        }
        for crowd in &crowds {
            crowd.wait_for_answers(rng.usize(1..100));
        }
        Crowd::let_go_on(rng);
        crowds
    }

    /// Waits until puts of each peer are taken that were sent from now on, but for a few.
    pub(super) fn go_on(&mut self, crowds: &[Crowd]) {
        let start = Instant::now();
        for crowd in crowds {
            crowd.forget_outcomes();
        }
        for crowd in crowds {
            crowd.wait_for_outcomes(PUTS_AFTER, Outcome::Acknowledged);
        }
        self.longest_wait = self.longest_wait.max(start.elapsed());
    }

    /// Waits until each peer takes puts.
    fn take_puts(&self) {
        for (number, peer) in self.peers.iter().enumerate() {
            let takes = || peer.put(&format!("again-{number}"), "null").status == 201;
            wait_until("puts are taken again", takes);
        }
    }
}

impl Drop for Peers {
    /// Says what the peers have said, where a round has failed.
    fn drop(&mut self) {
        if thread::panicking() {
            // One that has ended already has nothing to be killed.
            let told = |peer| drop(catch_unwind(AssertUnwindSafe(|| tell_log(peer))));
            self.peers.iter_mut().for_each(told);
        }
    }
}

#[expect(clippy::print_stdout, reason = "it is for whoever looks for the cause")]
fn tell_log(peer: &mut Peer) {
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
