//! SIGSTOP under load, and SIGCONT, within the time-outs of the clients.

use std::thread;
use std::time::Instant;

use fastrand::Rng;
use rustix::process::Signal;

use super::{History, Load, Outcome, RoundCounts, Rounds, conclude};
use crate::support::{DEADLINE, Peer};

/// The number of clients that connect while the server is stopped.
const LATE_CLIENTS: usize = 8;

#[test]
fn leaves_no_put_unanswered() {
    Rounds::of("stop", 3).play(round);
}

fn round(rng: &mut Rng) -> RoundCounts {
    let mut history = History::default();
    let peer = Peer::start();
    let load = Load::of_own_keys("put", rng.usize(2..=16));
    let clients = history.start_clients(peer.address(), &load, rng);
    clients.wait_for_answers(rng.usize(..400));
    peer.signal(Signal::STOP);
    wait_until_stopped(&peer);
    let load = Load::of_own_keys("late", LATE_CLIENTS);
    let late = history.start_clients(peer.address(), &load, rng);
    late.wait_for_sent(LATE_CLIENTS);
    assert!(peer.is_stopped());
    peer.signal(Signal::CONT);
    late.wait_for_answers(2 * LATE_CLIENTS);
    clients.forget_outcomes();
    clients.wait_for_answers(100);
    history.add(clients);
    history.add(late);
    for outcome in [Outcome::Refused, Outcome::Unknown, Outcome::Unanswered] {
        assert_eq!(history.count(outcome), 0, "{outcome:?}");
    }
    conclude(history, &peer, rng)
}

fn wait_until_stopped(peer: &Peer) {
    let start = Instant::now();
    while !peer.is_stopped() {
        assert!(start.elapsed() < DEADLINE, "it goes on");
        thread::yield_now();
    }
}
