//! A disk that becomes full, and later has room again.
//!
//! Limits of the process are in `store_faults`.

use std::net::SocketAddr;

use fastrand::Rng;

use super::{History, Load, Outcome, RoundCounts, Rounds, Store, conclude};
use crate::support::{Peer, can_make, no_own_disk};

/// Enough for everything that is put once there is room again.
const ROOM: &str = "size=256m";

#[test]
fn fails_puts_until_there_is_room_again() {
    if can_make("full", no_own_disk()) {
        Rounds::of("full", 3).play(round);
    }
}

fn round(rng: &mut Rng) -> RoundCounts {
    let mut history = History::default();
    let peer = Peer::builder().on_own_disk(rng.u64(300..1500)).start();
    let store = OnOwnDisk(&peer);
    let load = Load::of_own_keys("put", rng.usize(2..=16));
    let clients = history.start_clients(peer.address(), &load, rng);
    clients.wait_for_outcomes(rng.usize(1..200), Outcome::Unknown);
    peer.log_line("database or disk is full");
    history.read(&store);
    peer.remount(ROOM).expect("has room");
    clients.forget_outcomes();
    clients.wait_for_outcomes(200, Outcome::Acknowledged);
    history.add(clients);
    conclude(history, &store, rng)
}

/// The store of a server on a file system of its own.
pub(crate) struct OnOwnDisk<'a>(pub(crate) &'a Peer);

impl Store for OnOwnDisk<'_> {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.0.addresses()
    }

    fn events(&self) -> Vec<(String, String)> {
        self.0.run_on_disk("export").lines_of_events()
    }

    fn verify(&self) {
        self.0.run_on_disk("verify").assert_ok();
    }
}
