//! Three peers on three nats-servers, under load: servers and peers are killed, stopped or cut off, and
//! acknowledgements are lost.
//!
//! A put whose peer was killed may still be stored.

use rustix::process::Signal;

use super::nats_peers::{NODES, finish, play};
use super::{Clients, Load, Outcome, Store as _};
use crate::nats::Link;

#[test]
fn server_is_killed_and_puts_go_on() {
    play("nats::server_is_killed", |peers, history, rng| {
        let all_clients = peers.start_clients(history, "one", rng);
        let node = rng.usize(..NODES);
        peers.cluster.kill(node);
        for clients in &all_clients {
            clients.forget_outcomes();
            clients.wait_for_outcomes(50, Outcome::Acknowledged);
        }
        history.read(peers);
        peers.cluster.restart(node);
        finish(history, all_clients);
    });
}

#[test]
fn without_a_quorum_puts_are_refused() {
    play("nats::without_a_quorum", |peers, history, rng| {
        let all_clients = peers.start_clients(history, "two", rng);
        let stays = rng.usize(..NODES);
        let killed: Vec<usize> = (0..NODES).filter(|node| *node != stays).collect();
        for node in &killed {
            peers.cluster.kill(*node);
        }
        for clients in &all_clients {
            clients.forget_outcomes();
            clients.wait_for_outcomes(1, Outcome::Refused);
        }
        for node in killed {
            peers.cluster.restart(node);
        }
        for clients in &all_clients {
            clients.wait_for_outcomes(50, Outcome::Acknowledged);
        }
        finish(history, all_clients);
    });
}

#[test]
fn all_servers_are_killed_at_once() {
    play("nats::all_servers", |peers, history, rng| {
        let all_clients = peers.start_clients(history, "all", rng);
        for node in 0..NODES {
            peers.cluster.kill(node);
        }
        for node in 0..NODES {
            peers.cluster.restart(node);
        }
        for clients in &all_clients {
            clients.forget_outcomes();
            clients.wait_for_outcomes(50, Outcome::Acknowledged);
        }
        finish(history, all_clients);
    });
}

#[test]
fn server_hangs_and_continues() {
    play("nats::server_hangs", |peers, history, rng| {
        let all_clients = peers.start_clients(history, "hangs", rng);
        let node = rng.usize(..NODES);
        peers.cluster.signal(node, Signal::STOP);
        for clients in &all_clients {
            clients.forget_outcomes();
            clients.wait_for_outcomes(50, Outcome::Acknowledged);
        }
        peers.cluster.signal(node, Signal::CONT);
        for clients in &all_clients {
            clients.wait_for_outcomes(50, Outcome::Acknowledged);
        }
        finish(history, all_clients);
    });
}

/// It gets all of its events from the others.
#[test]
fn server_comes_back_empty() {
    play("nats::server_comes_back", |peers, history, rng| {
        let all_clients = peers.start_clients(history, "empty", rng);
        let node = rng.usize(..NODES);
        peers.cluster.kill(node);
        peers.wait_for_puts(&all_clients);
        peers.cluster.empty(node);
        peers.cluster.restart(node);
        peers.cluster.wait();
        peers.wait_for_puts(&all_clients);
        finish(history, all_clients);
    });
}

/// The peers still reach all servers, but one server reaches no other.
#[test]
fn server_is_cut_off_from_the_others() {
    play("nats::server_is_cut_off", |peers, history, rng| {
        let all_clients = peers.start_clients(history, "partition", rng);
        let node = rng.usize(..NODES);
        match rng.bool() {
            true => peers.cluster.around(node, Link::cut),
            false => peers.cluster.around(node, Link::hold),
        }
        for clients in &all_clients {
            clients.forget_outcomes();
            clients.wait_for_outcomes(50, Outcome::Acknowledged);
        }
        peers.cluster.around(node, Link::mend);
        for clients in &all_clients {
            clients.wait_for_outcomes(50, Outcome::Acknowledged);
        }
        finish(history, all_clients);
    });
}

#[test]
fn acknowledgements_are_lost() {
    play("nats::acknowledgements_are_lost", |peers, history, rng| {
        let all_clients = peers.start_clients(history, "lost", rng);
        for _ in 0..rng.usize(2..=5) {
            for link in &peers.links {
                link.hold_back();
            }
            Clients::run_for_a_while(rng);
            for link in &peers.links {
                link.cut();
                link.mend();
            }
            for clients in &all_clients {
                clients.forget_outcomes();
                clients.wait_for_outcomes(20, Outcome::Acknowledged);
            }
        }
        finish(history, all_clients);
    });
}

/// Few shared keys, while servers and peers are killed.
#[test]
fn histories() {
    play("nats::histories", |peers, history, rng| {
        for phase in 0..2 {
            let load = Load::of_few_keys(&format!("{phase}"), rng.usize(2..=6), rng.usize(1..=4));
            let mut all_clients = Vec::new();
            for address in peers.addresses() {
                all_clients.push(history.start_clients(address, &load, rng));
            }
            all_clients[0].wait_for_answers(rng.usize(1..100));
            let (victim, node) = (rng.usize(..NODES), rng.usize(..NODES));
            if rng.bool() {
                peers.cluster.kill(node);
            }
            Clients::run_for_a_while(rng);
            peers.peers[victim].signal(Signal::KILL);
            peers.peers[victim].wait();
            history.add(all_clients.remove(victim));
            for clients in all_clients {
                clients.forget_outcomes();
                clients.wait_for_answers(20);
                history.add(clients);
            }
            peers.cluster.restart_killed();
            peers.cluster.wait();
            peers.peers[victim] = peers.serve();
            history.read(peers);
        }
    });
}
