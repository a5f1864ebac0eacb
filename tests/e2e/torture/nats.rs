//! Three peers over three servers of NATS, under load: servers and peers that are killed, stopped or cut
//! off, and acknowledgements that are lost.
//!
//! A put whose peer is gone may still be stored, as long as a server has it to store.

use std::net::SocketAddr;

use fastrand::Rng;
use rustix::process::Signal;

use super::{Crowd, History, Load, Outcome, Rounds, Store, Tally, conclude};
use crate::nats::{Cluster, Link, STREAM, can_start};
use crate::support::{DEADLINE, Peer, run, wait_until, wait_until_within};

/// How many servers and peers there are.
pub(super) const NODES: usize = 3;

#[test]
fn a_server_is_killed_and_puts_go_on() {
    play("nats::a_server_is_killed", |peers, history, rng| {
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
fn without_a_quorum_puts_are_refused_and_then_taken_again() {
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
fn a_server_hangs_and_goes_on() {
    play("nats::a_server_hangs", |peers, history, rng| {
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

/// The peers still reach all servers, but that one reaches no other.
#[test]
fn a_server_is_cut_off_from_the_others() {
    play("nats::a_server_is_cut_off", |peers, history, rng| {
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

/// Plays rounds of a fault under load.
pub(super) fn play(fault: &'static str, round: impl Fn(&mut Peers, &mut History, &mut Rng)) {
    if !can_start(fault) {
        return;
    }
    Rounds::of(fault, 1).play(|rng| -> Tally {
        let (mut peers, mut history) = (Peers::start(), History::default());
        round(&mut peers, &mut history, rng);
        peers.cluster.wait();
        peers.take_puts();
        conclude(history, &peers, rng)
    });
}

pub(super) fn finish(history: &mut History, crowds: Vec<Crowd>) {
    for crowd in crowds {
        history.add(crowd);
    }
}

/// Peers that put into one stream.
pub(super) struct Peers {
    peers: Vec<Peer>,
    /// To each server, for all peers.
    pub(super) links: Vec<Link>,
    pub(super) cluster: Cluster,
}

impl Peers {
    fn start() -> Self {
        let cluster = Cluster::start(NODES, "");
        let links = (0..NODES).map(|node| Link::to(cluster.address(node)));
        let links = links.collect();
        let mut peers = Self {
            peers: Vec::new(),
            links,
            cluster,
        };
        for _ in 0..NODES {
            let peer = peers.serve();
            peers.peers.push(peer);
        }
        peers
    }

    fn store(&self) -> String {
        let hosts: Vec<String> = self
            .links
            .iter()
            .map(|link| link.address().to_string())
            .collect();
        format!("nats://{}/{STREAM}", hosts.join(","))
    }

    fn serve(&self) -> Peer {
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

    /// Waits until each peer takes puts.
    fn take_puts(&self) {
        for (number, peer) in self.peers.iter().enumerate() {
            let takes = || peer.put(&format!("again-{number}"), "null").status == 201;
            wait_until("puts are taken again", takes);
        }
    }
}

impl Store for Peers {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.peers.iter().map(Peer::address).collect()
    }

    fn events(&self) -> Vec<(String, String)> {
        let mut events = Vec::new();
        // Where servers are gone, there is nothing to be read until they have a new leader.
        wait_until_within(3 * DEADLINE, "the stream is read", || {
            let output = run(&["export", "--store", &self.store()]);
            let is_read = output.code == Some(0);
            if is_read {
                events = output.lines_of_events();
            }
            is_read
        });
        // But for those that no history has put.
        events.retain(|(key, _)| !key.starts_with("again-"));
        events
    }

    fn verify(&self) {
        let mut output = run(&["verify", "--store", &self.store()]);
        // Servers that have just found one another again may not know yet who leads.
        wait_until_within(3 * DEADLINE, "the stream can be read", || {
            let is_read = !output.stderr.contains("cannot read the stream");
            if !is_read {
                output = run(&["verify", "--store", &self.store()]);
            }
            is_read
        });
        output.assert_ok();
    }
}
