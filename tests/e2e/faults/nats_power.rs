//! The servers of NATS lose power under load: which events their disks have afterwards.
//!
//! With `sync_interval: always` these are all acknowledged ones. With the default some are lost, which is measured, and
//! shows that the disks do lose power.

use fastrand::Rng;

use super::nats_peers::{NODES, Peers, configuration, finish, play_one, synced};
use super::{History, Rounds, Tally};
use crate::nats::{Cluster, Replicas, can_start, no_disks};
use crate::support::can_make;

/// All servers.
const ALL: [usize; NODES] = [0, 1, 2];

#[test]
fn all_servers_that_sync_lose_power() {
    play("nats_power::all_servers_that_sync", |rng| {
        let cluster = Cluster::start_on_disks(NODES, &synced("always"));
        play_one(Peers::of(cluster), rng, |peers, history, rng| {
            let crowds = peers.crowds(history, "power", rng);
            for _ in 0..2 {
                peers.cluster.lose_power(&ALL);
                peers.go_on(&crowds);
            }
            finish(history, crowds);
        })
    });
}

/// What its disk has lost it has again from the others.
#[test]
fn one_server_loses_power() {
    play("nats_power::one_server", |rng| {
        let cluster = Cluster::start_on_disks(NODES, &configuration());
        play_one(Peers::of(cluster), rng, |peers, history, rng| {
            let crowds = peers.crowds(history, "power", rng);
            peers.cluster.lose_power(&[rng.usize(..NODES)]);
            peers.go_on(&crowds);
            peers.cluster.wait();
            finish(history, crowds);
        })
    });
}

/// This is what the documentation says of the default: it is no promise that is broken.
#[test]
fn all_servers_with_defaults_lose_power_and_events() {
    play("nats_power::all_servers_with_defaults", |rng| {
        let peers = Peers::of(Cluster::start_on_disks(NODES, ""));
        let tally = measure(peers, rng);
        assert!(
            tally.lost > 0,
            "a disk has not forgotten what was not synced"
        );
        tally
    });
}

/// What is acknowledged until the power is lost, and how much of it the stream lacks afterwards. The
/// stream itself and its first events are on the disks by then, as after half a minute.
fn measure(mut peers: Peers, rng: &mut Rng) -> Tally {
    let mut history = History::default();
    let crowds = peers.crowds(&mut history, "first", rng);
    peers.go_on(&crowds);
    finish(&mut history, crowds);
    peers.cluster.sync_disks();
    let crowds = peers.crowds(&mut history, "power", rng);
    peers.go_on(&crowds);
    peers.cluster.lose_power(&ALL);
    // Without peers nothing more is acknowledged, and nothing lost is put again.
    peers.peers.clear();
    finish(&mut history, crowds);
    peers.cluster.wait();
    let found = Replicas::of(&peers.cluster).events_of_leader();
    if found.is_none() {
        tell("the stream is gone, or has no leader any more");
    }
    Tally {
        acknowledged: history.acknowledged_keys().len() as u64,
        lost: history.lacking(&found.unwrap_or_default()),
        ..Tally::default()
    }
}

#[expect(clippy::print_stdout, reason = "it is for whoever measures")]
fn tell(line: &str) {
    println!("{line}");
}

fn play(fault: &'static str, round: impl FnMut(&mut Rng) -> Tally) {
    if can_start(fault) && can_make(fault, no_disks()) {
        Rounds::of(fault, 1).play(round);
    }
}
