//! Faults of the nats-server that leads the stream, under load: killed, stopped or cut off; and slow links.

use std::time::Duration;

use rustix::process::Signal;

use super::nats_peers::{NODES, Peers, finish, play};
use super::{Load, Outcome, Store as _};
use crate::nats::{ELECTION_DEADLINE, Link, Replicas, STREAM};

/// The number of events of each peer before there are repeats, and the number of repeats and conflicts.
const PUTS_BEFORE: usize = 170;
const REPEATS: usize = 1000;

/// The largest delay of a slow link.
const MAX_DELAY_MS: u64 = 100;

#[test]
fn leaders_are_killed_one_after_the_other() {
    play("nats_leader::leaders_are_killed", |peers, history, rng| {
        let all_clients = peers.start_clients(history, "each", rng);
        for _ in 0..2 {
            let leader = leader(peers);
            peers.cluster.kill(leader);
            peers.wait_for_puts(&all_clients);
            assert_ne!(leader, self::leader(peers));
            peers.cluster.restart(leader);
            // The next server fails only after this one is back: with one down, the others elect a leader only if both
            // have caught up.
            let catches_up = peers.cluster.catches_up(leader, STREAM, ELECTION_DEADLINE);
            assert!(catches_up, "the server is not back");
        }
        peers.wait_for_puts(&all_clients);
        finish(history, all_clients);
    });
}

/// It does not know that it no longer leads until it hears from the others.
#[test]
fn leader_hangs_and_continues() {
    play("nats_leader::leader_hangs", |peers, history, rng| {
        let all_clients = peers.start_clients(history, "hangs", rng);
        let leader = leader(peers);
        peers.cluster.signal(leader, Signal::STOP);
        peers.wait_for_puts(&all_clients);
        peers.cluster.signal(leader, Signal::CONT);
        peers.wait_for_puts(&all_clients);
        finish(history, all_clients);
    });
}

/// The others elect a new leader, while peers still reach all of them.
#[test]
fn leader_is_cut_off_from_the_others() {
    play("nats_leader::leader_is_cut_off", |peers, history, rng| {
        let all_clients = peers.start_clients(history, "partition", rng);
        let leader = leader(peers);
        match rng.bool() {
            true => peers.cluster.around(leader, Link::cut),
            false => peers.cluster.around(leader, Link::hold),
        }
        peers.wait_for_puts(&all_clients);
        history.read(peers);
        peers.cluster.around(leader, Link::mend);
        peers.wait_for_puts(&all_clients);
        finish(history, all_clients);
    });
}

#[test]
fn follower_hangs_and_puts_go_on() {
    play("nats_leader::follower_hangs", |peers, history, rng| {
        let leader = leader(peers);
        let follower = (leader + rng.usize(1..NODES)) % NODES;
        let all_clients = peers.start_clients(history, "follows", rng);
        peers.cluster.signal(follower, Signal::STOP);
        peers.wait_for_puts(&all_clients);
        assert_eq!(leader, self::leader(peers), "a quorum is still there");
        peers.cluster.signal(follower, Signal::CONT);
        peers.wait_for_puts(&all_clients);
        finish(history, all_clients);
    });
}

#[test]
fn links_are_slow() {
    play("nats_leader::links_are_slow", |peers, history, rng| {
        let all_clients = peers.start_clients(history, "slow", rng);
        let delay = |rng: &mut fastrand::Rng| Duration::from_millis(rng.u64(1..=MAX_DELAY_MS));
        let (between, around) = (delay(rng), rng.usize(..NODES));
        peers.cluster.around(around, |link| link.slow(between));
        for link in &peers.links {
            link.slow(delay(rng));
        }
        peers.wait_for_puts(&all_clients);
        peers.cluster.around(around, Link::mend);
        peers.links.iter().for_each(Link::mend);
        peers.wait_for_puts(&all_clients);
        finish(history, all_clients);
    });
}

/// When a former leader leads again, its count of messages is wrong if all of its puts but the first failed,
/// unless it resets its state.
#[test]
fn leader_is_changed_after_repeats() {
    play("nats_leader::leader_is_changed", |peers, history, rng| {
        let first = leader(peers);
        let all_clients = peers.start_clients(history, "first", rng);
        for clients in &all_clients {
            clients.wait_for_outcomes(PUTS_BEFORE, Outcome::Acknowledged);
        }
        finish(history, all_clients);
        let load = Load::of_few_keys("repeat", 8, 2);
        let mut repeats = Vec::new();
        for address in peers.addresses() {
            repeats.push(history.start_clients(address, &load, rng));
        }
        for clients in &repeats {
            clients.wait_for_answers(REPEATS);
        }
        finish(history, repeats);
        let all_clients = peers.start_clients(history, "after", rng);
        for next in 1..=NODES {
            Replicas::of(&peers.cluster).lead((first + next) % NODES);
            peers.wait_for_puts(&all_clients);
        }
        finish(history, all_clients);
    });
}

/// The leader of the stream, as soon as there is one.
fn leader(peers: &Peers) -> usize {
    Replicas::of(&peers.cluster).leader()
}
