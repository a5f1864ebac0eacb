//! SIGKILL at any moment under load.
//!
//! Never with few keys, for which see `histories`: here it counts how much is acknowledged.

use fastrand::Rng;
use rustix::process::Signal;

use super::{Crowd, History, Load, Rounds, Tally, conclude};
use crate::support::Peer;

#[test]
fn loses_nothing_that_was_acknowledged() {
    Rounds::of("kill", 10).play(round);
}

fn round(rng: &mut Rng) -> Tally {
    let mut history = History::default();
    let mut peer = Peer::start();
    // The second finds what the first has left, and may come before all of that is in its place.
    for kill in 0..rng.usize(1..=2) {
        let load = Load::of_own_keys(&format!("put-{kill}"), rng.usize(1..=32));
        let crowd = history.crowd(peer.address(), &load, rng);
        crowd.wait_for_answers(rng.usize(..600));
        Crowd::let_go_on(rng);
        let (status, next) = peer.end(Signal::KILL);
        assert_eq!(status.code(), None, "it ended before the kill");
        history.add_ended(crowd);
        peer = next.start();
        history.read(&peer);
    }
    conclude(history, &peer, rng)
}
