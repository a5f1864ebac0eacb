//! Faults, and random histories: what was acknowledged is there, and no answer was wrong.
//!
//! Each fault is a file, and its name is that of its tests. A run of all tests has a few rounds of
//! each; `make faults` has many. Damaged stores are in `store_damage`.

mod crowd;
mod events;
mod history;
mod model;
mod model_rules;

mod histories;

mod clock;
mod descriptors;
mod full;
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
use crowd::{Crowd, Load};
use histories::{Store, conclude};
use history::History;
use model::Outcome;
use rounds::{Rounds, Tally};
