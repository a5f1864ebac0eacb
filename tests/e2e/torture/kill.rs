//! SIGKILL at any moment under load.
//!
//! Never with few keys, for which see `histories`: here it counts how much is acknowledged.

use fastrand::Rng;
use rustix::process::Signal;

use super::{History, Load, Rounds, Tally, conclude};
use crate::support::Peer;

#[test]
fn loses_nothing_that_was_acknowledged() {
    Rounds::of("kill", 6).play(round);
}

fn round(rng: &mut Rng) -> Tally {
    let mut history = History::default();
    let peer = Peer::start();
    let load = Load::of_own_keys("put", rng.usize(1..=32));
    let crowd = history.crowd(peer.address(), &load, rng);
    crowd.wait_for_answers(rng.usize(..600));
    let (status, next) = peer.end(Signal::KILL);
    assert_eq!(status.code(), None, "it ended before the kill");
    history.add_ended(crowd);
    let peer = next.start();
    history.read(&peer);
    conclude(history, &peer, rng)
}
