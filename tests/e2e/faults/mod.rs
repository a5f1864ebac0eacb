//! Faults and random histories: acknowledged events are stored, and no response was wrong.
//!
//! Each fault is a file, and its name is that of its tests. `cargo test` runs a few rounds of each, `make
//! faults` many. Damaged stores are in `store_damage`.

mod clients;
mod events;
mod history;
mod model;
mod model_rules;

mod histories;

mod clock;
mod descriptors;
mod full;
mod javascript;
mod kill;
mod locked;
mod nats;
mod nats_identity;
mod nats_leader;
mod nats_peers;
mod nats_power;
mod read_only;
mod sink;
mod stop;

use alldata_peer_test_support::rounds;
use clients::{Clients, Load};
use histories::{Store, conclude};
use history::History;
use model::Outcome;
use rounds::{RoundCounts, Rounds};
