//! Three peers over three servers of NATS, under load: servers and peers are killed, stopped or cut off, and
//! acknowledgements are lost.
//!
//! A put whose peer was killed may still be stored.

use rustix::process::Signal;

use super::nats_peers::{NODES, finish, play};
use super::{Crowd, Load, Outcome, Store as _};
use crate::nats::Link;

#[test]
fn server_is_killed_and_puts_go_on() {
    play("nats::server_is_killed", |peers, history, rng| {
        let crowds = peers.crowds(history, "one", rng);
        let node = rng.usize(..NODES);
        peers.cluster.kill(node);
        for crowd in &crowds {
            crowd.forget_outcomes();
            crowd.wait_for_outcomes(50, Outcome::Acknowledged);
        }
        history.read(peers);
        peers.cluster.restart(node);
        finish(history, crowds);
    });
}

#[test]
fn without_a_quorum_puts_are_refused() {
    play("nats::without_a_quorum", |peers, history, rng| {
        let crowds = peers.crowds(history, "two", rng);
        let stays = rng.usize(..NODES);
        let killed: Vec<usize> = (0..NODES).filter(|node| *node != stays).collect();
        for node in &killed {
            peers.cluster.kill(*node);
        }
        for crowd in &crowds {
            crowd.forget_outcomes();
            crowd.wait_for_outcomes(1, Outcome::Refused);
        }
        for node in killed {
            peers.cluster.restart(node);
        }
        for crowd in &crowds {
            crowd.wait_for_outcomes(50, Outcome::Acknowledged);
        }
        finish(history, crowds);
    });
}

#[test]
fn all_servers_are_killed_at_once() {
    play("nats::all_servers", |peers, history, rng| {
        let crowds = peers.crowds(history, "all", rng);
        for node in 0..NODES {
            peers.cluster.kill(node);
        }
        for node in 0..NODES {
            peers.cluster.restart(node);
        }
        for crowd in &crowds {
            crowd.forget_outcomes();
            crowd.wait_for_outcomes(50, Outcome::Acknowledged);
        }
        finish(history, crowds);
    });
}

#[test]
fn server_hangs_and_continues() {
    play("nats::server_hangs", |peers, history, rng| {
        let crowds = peers.crowds(history, "hangs", rng);
        let node = rng.usize(..NODES);
        peers.cluster.signal(node, Signal::STOP);
        for crowd in &crowds {
            crowd.forget_outcomes();
            crowd.wait_for_outcomes(50, Outcome::Acknowledged);
        }
        peers.cluster.signal(node, Signal::CONT);
        for crowd in &crowds {
            crowd.wait_for_outcomes(50, Outcome::Acknowledged);
        }
        finish(history, crowds);
    });
}

/// It gets all that it had from the others.
#[test]
fn server_comes_back_empty() {
    play("nats::server_comes_back", |peers, history, rng| {
        let crowds = peers.crowds(history, "empty", rng);
        let node = rng.usize(..NODES);
        peers.cluster.kill(node);
        peers.go_on(&crowds);
        peers.cluster.empty(node);
        peers.cluster.restart(node);
        peers.cluster.wait();
        peers.go_on(&crowds);
        finish(history, crowds);
    });
}

/// The peers still reach all servers, but that one reaches no other.
#[test]
fn server_is_cut_off_from_the_others() {
    play("nats::server_is_cut_off", |peers, history, rng| {
        let crowds = peers.crowds(history, "apart", rng);
        let node = rng.usize(..NODES);
        match rng.bool() {
            true => peers.cluster.around(node, Link::cut),
            false => peers.cluster.around(node, Link::hold),
        }
        for crowd in &crowds {
            crowd.forget_outcomes();
            crowd.wait_for_outcomes(50, Outcome::Acknowledged);
        }
        peers.cluster.around(node, Link::mend);
        for crowd in &crowds {
            crowd.wait_for_outcomes(50, Outcome::Acknowledged);
        }
        finish(history, crowds);
    });
}

#[test]
fn acknowledgements_are_lost() {
    play("nats::acknowledgements_are_lost", |peers, history, rng| {
        let crowds = peers.crowds(history, "lost", rng);
        for _ in 0..rng.usize(2..=5) {
            for link in &peers.links {
                link.hold_back();
            }
            Crowd::let_go_on(rng);
            for link in &peers.links {
                link.cut();
                link.mend();
            }
            for crowd in &crowds {
                crowd.forget_outcomes();
                crowd.wait_for_outcomes(20, Outcome::Acknowledged);
            }
        }
        finish(history, crowds);
    });
}

/// Few keys, so that all meet, while servers and peers are killed.
#[test]
fn histories() {
    play("nats::histories", |peers, history, rng| {
        for phase in 0..2 {
            let load = Load::of_few_keys(&format!("{phase}"), rng.usize(2..=6), rng.usize(1..=4));
            let mut crowds = Vec::new();
            for address in peers.addresses() {
                crowds.push(history.crowd(address, &load, rng));
            }
            crowds[0].wait_for_answers(rng.usize(1..100));
            let (victim, node) = (rng.usize(..NODES), rng.usize(..NODES));
            if rng.bool() {
                peers.cluster.kill(node);
            }
            Crowd::let_go_on(rng);
            peers.peers[victim].signal(Signal::KILL);
            peers.peers[victim].wait();
            history.add(crowds.remove(victim));
            for crowd in crowds {
                crowd.forget_outcomes();
                crowd.wait_for_answers(20);
                history.add(crowd);
            }
            peers.cluster.restart_killed();
            peers.cluster.wait();
            peers.peers[victim] = peers.serve();
            history.read(peers);
        }
    });
}
