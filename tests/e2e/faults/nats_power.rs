//! All nats-servers lose power under load: which events their disks have afterwards.
//!
//! With `sync_interval: always` they have all acknowledged ones. With the default some are lost: this is
//! measured, and shows that the simulated disks do lose data.

use fastrand::Rng;

use super::nats_peers::{NODES, Peers, configuration, finish, play_one, synced};
use super::{History, RoundCounts, Rounds};
use crate::nats::{Cluster, Replicas, can_start, no_disks};
use crate::support::can_make;

/// All servers.
const ALL: [usize; NODES] = [0, 1, 2];

#[test]
fn all_servers_that_sync_lose_power() {
    play("nats_power::all_servers_that_sync", |rng| {
        let cluster = Cluster::start_on_disks(NODES, &synced("always"));
        play_one(Peers::of(cluster), rng, |peers, history, rng| {
            let all_clients = peers.start_clients(history, "power", rng);
            for _ in 0..2 {
                peers.cluster.lose_power(&ALL);
                peers.wait_for_puts(&all_clients);
            }
            finish(history, all_clients);
        })
    });
}

/// It gets the lost events from the others.
#[test]
fn one_server_loses_power() {
    play("nats_power::one_server", |rng| {
        let cluster = Cluster::start_on_disks(NODES, &configuration());
        play_one(Peers::of(cluster), rng, |peers, history, rng| {
            let all_clients = peers.start_clients(history, "power", rng);
            peers.cluster.lose_power(&[rng.usize(..NODES)]);
            peers.wait_for_puts(&all_clients);
            peers.cluster.wait();
            finish(history, all_clients);
        })
    });
}

/// The documentation says this of the default: it is not a broken promise.
#[test]
fn all_servers_with_defaults_lose_power_and_events() {
    play("nats_power::all_servers_with_defaults", |rng| {
        let peers = Peers::of(Cluster::start_on_disks(NODES, ""));
        let counts = measure(peers, rng);
        assert!(
            counts.lost > 0,
            "a disk has not forgotten what was not synced"
        );
        counts
    });
}

/// The number of acknowledged events until the loss of power, and how many of them the stream lacks afterwards.
/// The stream itself and its first events were synced before, as after half a minute.
fn measure(mut peers: Peers, rng: &mut Rng) -> RoundCounts {
    let mut history = History::default();
    let all_clients = peers.start_clients(&mut history, "first", rng);
    peers.wait_for_puts(&all_clients);
    finish(&mut history, all_clients);
    peers.cluster.sync_disks();
    let all_clients = peers.start_clients(&mut history, "power", rng);
    peers.wait_for_puts(&all_clients);
    peers.cluster.lose_power(&ALL);
    // Without peers no more events are acknowledged, and no lost event is put again.
    peers.peers.clear();
    finish(&mut history, all_clients);
    peers.cluster.wait();
    let found = Replicas::of(&peers.cluster).events_of_leader();
    if found.is_none() {
        report("the stream is gone, or has no leader any more");
    }
    RoundCounts {
        acknowledged: history.acknowledged_keys().len() as u64,
        lost: history.lacking(&found.unwrap_or_default()),
        ..RoundCounts::default()
    }
}

#[expect(clippy::print_stdout, reason = "it is for whoever measures")]
fn report(line: &str) {
    println!("{line}");
}

fn play(fault: &'static str, round: impl FnMut(&mut Rng) -> RoundCounts) {
    if can_start(fault) && can_make(fault, no_disks()) {
        Rounds::of(fault, 1).play(round);
    }
}
