//! SIGKILL at any moment under load. Counts acknowledged events; few shared keys are in `histories`.

use fastrand::Rng;
use rustix::process::Signal;

use super::{Clients, History, Load, RoundCounts, Rounds, conclude};
use crate::support::Peer;

#[test]
fn loses_nothing_that_was_acknowledged() {
    Rounds::of("kill", 10).play(round);
}

fn round(rng: &mut Rng) -> RoundCounts {
    let mut history = History::default();
    let mut peer = Peer::start();
    // The second server starts on the files that the first left, and may be killed before it has recovered
    // them.
    for kill in 0..rng.usize(1..=2) {
        let load = Load::of_own_keys(&format!("put-{kill}"), rng.usize(1..=32));
        let clients = history.start_clients(peer.address(), &load, rng);
        clients.wait_for_answers(rng.usize(..600));
        Clients::run_for_a_while(rng);
        let (status, next) = peer.end(Signal::KILL);
        assert_eq!(status.code(), None, "it ended before the kill");
        history.add_ended(clients);
        peer = next.start();
        history.read(&peer);
    }
    conclude(history, &peer, rng)
}
