//! A history as it grows: what crowds of clients did, what was read meanwhile, and whether all of it
//! is allowed.
//!
//! Never decides what happens next.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use fastrand::Rng;

use super::Store;
use super::crowd::{Clock, Crowd, Load, Unsettled};
use super::model::{NEVER, Outcome, Put, Read, violations};
use super::rounds::Tally;

/// The most violations that are told: more say nothing new.
const MAX_TOLD: usize = 5;

/// What happened so far.
#[derive(Default)]
pub(crate) struct History {
    clock: Clock,
    puts: Vec<Put>,
    reads: Vec<Read>,
    /// What the next crowd puts again.
    unsettled: Vec<Unsettled>,
}

impl History {
    /// Has clients put to a server, first what nobody knows the outcome of.
    pub(crate) fn crowd(&mut self, address: SocketAddr, load: &Load, rng: &mut Rng) -> Crowd {
        let unsettled = std::mem::take(&mut self.unsettled);
        Crowd::start(address, load, &self.clock, unsettled, rng)
    }

    /// Ends clients whose server goes on.
    pub(crate) fn add(&mut self, crowd: Crowd) {
        self.add_puts(crowd.finish());
    }

    /// Adds what clients did whose server has ended: from now on it stores nothing.
    pub(crate) fn add_ended(&mut self, crowd: Crowd) {
        let moment = self.clock.now();
        let mut puts = crowd.finish();
        for put in &mut puts {
            put.end = match put.end {
                NEVER => moment,
                end => end,
            };
        }
        self.add_puts(puts);
    }

    fn add_puts(&mut self, puts: Vec<Put>) {
        for put in &puts {
            if matches!(put.outcome, Outcome::Unknown | Outcome::Unanswered) {
                self.unsettled.push((put.key.clone(), put.event.clone()));
            }
        }
        self.puts.extend(puts);
    }

    /// Reads the whole store, which may be written to meanwhile.
    pub(crate) fn read(&mut self, store: &dyn Store) {
        self.read_by(|| vec![store.events()]);
    }

    /// Reads the whole store one or more times at once, in some way.
    pub(crate) fn read_by(&mut self, read: impl FnOnce() -> Vec<Vec<(String, String)>>) {
        let start = self.clock.now();
        let reads = read();
        let end = self.clock.now();
        let reads = reads.into_iter();
        self.reads
            .extend(reads.map(|events| Read { start, end, events }));
    }

    /// How many keys of acknowledged events are not among others.
    pub(crate) fn lacking(&self, events: &[(String, String)]) -> u64 {
        let found: BTreeSet<&str> = events.iter().map(|(key, _)| key.as_str()).collect();
        let acknowledged = self.acknowledged_keys();
        acknowledged.difference(&found).count() as u64
    }

    /// The keys of events that were acknowledged.
    pub(crate) fn acknowledged_keys(&self) -> BTreeSet<&str> {
        let puts = self.puts.iter();
        let puts = puts.filter(|put| put.outcome == Outcome::Acknowledged);
        puts.map(|put| put.key.as_str()).collect()
    }

    /// How many puts had this outcome.
    pub(crate) fn count(&self, outcome: Outcome) -> u64 {
        let puts = self.puts.iter().filter(|put| put.outcome == outcome);
        puts.count() as u64
    }

    /// Holds that the model allows all that happened.
    #[track_caller]
    pub(crate) fn check(&self) -> Tally {
        let found = violations(&self.puts, &self.reads);
        let told = &found[..found.len().min(MAX_TOLD)];
        let all = found.len();
        assert!(
            found.is_empty(),
            "{all} violations of write-once:\n{}",
            told.join("\n")
        );
        let acknowledged = self.count(Outcome::Acknowledged);
        assert!(acknowledged > 0, "nothing was acknowledged");
        Tally {
            acknowledged,
            refused: self.count(Outcome::Refused) + self.count(Outcome::Conflict),
            unknown: self.count(Outcome::Unknown) + self.count(Outcome::Unanswered),
            ..Tally::default()
        }
    }
}
