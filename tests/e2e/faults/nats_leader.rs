//! Faults of the server that leads the stream, under load: killed, stopped or cut off; and slow links.

use std::time::Duration;

use rustix::process::Signal;

use super::nats_peers::{NODES, Peers, finish, play};
use super::{Load, Outcome, Store as _};
use crate::nats::{Link, Replicas};

/// How many events of each peer are stored before there are repeats, and how many repeats and
/// conflicts each then has.
const PUTS_BEFORE: usize = 170;
const REPEATS: usize = 1000;

/// How much later everything comes over a slow way, at the most.
const MAX_DELAY_MS: u64 = 100;

#[test]
fn leaders_are_killed_one_after_the_other() {
    play("nats_leader::leaders_are_killed", |peers, history, rng| {
        let crowds = peers.crowds(history, "each", rng);
        for _ in 0..2 {
            let leader = leader(peers);
            peers.cluster.kill(leader);
            peers.go_on(&crowds);
            assert_ne!(leader, self::leader(peers));
            peers.cluster.restart(leader);
            // The next is lost only when this one is there again.
            peers.cluster.wait();
        }
        peers.go_on(&crowds);
        finish(history, crowds);
    });
}

/// It does not know that it leads no more, until it is told.
#[test]
fn leader_hangs_and_continues() {
    play("nats_leader::leader_hangs", |peers, history, rng| {
        let crowds = peers.crowds(history, "hangs", rng);
        let leader = leader(peers);
        peers.cluster.signal(leader, Signal::STOP);
        peers.go_on(&crowds);
        peers.cluster.signal(leader, Signal::CONT);
        peers.go_on(&crowds);
        finish(history, crowds);
    });
}

/// The others elect a new one, while peers still reach both.
#[test]
fn leader_is_cut_off_from_the_others() {
    play("nats_leader::leader_is_cut_off", |peers, history, rng| {
        let crowds = peers.crowds(history, "apart", rng);
        let leader = leader(peers);
        match rng.bool() {
            true => peers.cluster.around(leader, Link::cut),
            false => peers.cluster.around(leader, Link::hold),
        }
        peers.go_on(&crowds);
        history.read(peers);
        peers.cluster.around(leader, Link::mend);
        peers.go_on(&crowds);
        finish(history, crowds);
    });
}

#[test]
fn follower_hangs_and_puts_go_on() {
    play("nats_leader::follower_hangs", |peers, history, rng| {
        let leader = leader(peers);
        let follower = (leader + rng.usize(1..NODES)) % NODES;
        let crowds = peers.crowds(history, "follows", rng);
        peers.cluster.signal(follower, Signal::STOP);
        peers.go_on(&crowds);
        assert_eq!(leader, self::leader(peers), "a quorum is still there");
        peers.cluster.signal(follower, Signal::CONT);
        peers.go_on(&crowds);
        finish(history, crowds);
    });
}

#[test]
fn links_are_slow() {
    play("nats_leader::links_are_slow", |peers, history, rng| {
        let crowds = peers.crowds(history, "slow", rng);
        let delay = |rng: &mut fastrand::Rng| Duration::from_millis(rng.u64(1..=MAX_DELAY_MS));
        let (between, around) = (delay(rng), rng.usize(..NODES));
        peers.cluster.around(around, |link| link.slow(between));
        for link in &peers.links {
            link.slow(delay(rng));
        }
        peers.go_on(&crowds);
        peers.cluster.around(around, Link::mend);
        peers.links.iter().for_each(Link::mend);
        peers.go_on(&crowds);
        finish(history, crowds);
    });
}

/// All of whose puts fail but the first ones has counted them wrongly when it leads again, unless it
/// begins anew.
#[test]
fn leader_is_changed_after_repeats() {
    play("nats_leader::leader_is_changed", |peers, history, rng| {
        let first = leader(peers);
        let crowds = peers.crowds(history, "first", rng);
        for crowd in &crowds {
            crowd.wait_for_outcomes(PUTS_BEFORE, Outcome::Acknowledged);
        }
        finish(history, crowds);
        let load = Load::of_few_keys("repeat", 8, 2);
        let mut repeats = Vec::new();
        for address in peers.addresses() {
            repeats.push(history.crowd(address, &load, rng));
        }
        for crowd in &repeats {
            crowd.wait_for_answers(REPEATS);
        }
        finish(history, repeats);
        let crowds = peers.crowds(history, "after", rng);
        for next in 1..=NODES {
            Replicas::of(&peers.cluster).lead((first + next) % NODES);
            peers.go_on(&crowds);
        }
        finish(history, crowds);
    });
}

/// Who leads the stream, once somebody does.
fn leader(peers: &Peers) -> usize {
    Replicas::of(&peers.cluster).leader()
}
