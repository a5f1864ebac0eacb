//! File descriptors that are used up under load. Connections that a server limits itself are in
//! `connection_limits`.

use fastrand::Rng;

use super::{History, Load, Outcome, RoundCounts, Rounds, conclude};
use crate::support::{Connection, Peer, Post};

/// More connections than free descriptors.
const CONNECTIONS: usize = 16;

#[test]
fn exhausted_delay_only_new_connections() {
    Rounds::of("descriptors", 3).play(round);
}

fn round(rng: &mut Rng) -> RoundCounts {
    let mut history = History::default();
    let peer = Peer::start();
    let load = Load::of_own_keys("kept", rng.usize(2..=8));
    let clients = history.start_clients(peer.address(), &load, rng);
    clients.wait_for_answers(rng.usize(1..200));
    peer.limit_open_files(Some(peer.open_files() + rng.u64(..8)));
    let connections: Vec<Connection> = (0..CONNECTIONS).map(|_| peer.connect()).collect();
    peer.log_line("cannot accept");
    let load = Load::of_own_keys("waiting", 4);
    let waiting = history.start_clients(peer.address(), &load, rng);
    waiting.wait_for_sent(4);
    clients.forget_outcomes();
    clients.wait_for_outcomes(100, Outcome::Acknowledged);
    peer.limit_open_files(None);
    waiting.wait_for_outcomes(20, Outcome::Acknowledged);
    for mut connection in connections {
        // Whether it was accepted before or only now.
        let refused = connection.ask(&Post::new("nonsense"));
        refused.assert_problem(400);
    }
    history.add(clients);
    history.add(waiting);
    assert_eq!(history.count(Outcome::Unanswered), 0);
    conclude(history, &peer, rng)
}
