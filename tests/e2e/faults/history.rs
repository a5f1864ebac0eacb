//! A growing history: the puts of clients, the reads meanwhile, and the check that the model allows them.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use fastrand::Rng;

use super::Store;
use super::clients::{Clients, Clock, Load, Unresolved};
use super::model::{NEVER, Outcome, Put, Read, violations};
use super::rounds::RoundCounts;

/// The most violations that are reported.
const MAX_REPORTED: usize = 5;

/// All puts and reads so far.
#[derive(Default)]
pub(crate) struct History {
    clock: Clock,
    puts: Vec<Put>,
    reads: Vec<Read>,
    /// The puts that the next clients repeat.
    unresolved: Vec<Unresolved>,
}

impl History {
    /// Starts clients that put to a server, beginning with the puts whose outcome is unknown.
    pub(crate) fn start_clients(
        &mut self,
        address: SocketAddr,
        load: &Load,
        rng: &mut Rng,
    ) -> Clients {
        let unresolved = std::mem::take(&mut self.unresolved);
        Clients::start(address, load, &self.clock, unresolved, rng)
    }

    /// Ends clients whose server continues.
    pub(crate) fn add(&mut self, clients: Clients) {
        self.add_puts(clients.finish());
    }

    /// Adds the puts of clients whose server has ended: from now on it stores nothing.
    pub(crate) fn add_ended(&mut self, clients: Clients) {
        let moment = self.clock.now();
        let mut puts = clients.finish();
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
                self.unresolved.push((put.key.clone(), put.event.clone()));
            }
        }
        self.puts.extend(puts);
    }

    /// Reads the whole store, which may be written to meanwhile.
    pub(crate) fn read(&mut self, store: &dyn Store) {
        self.read_by(|| vec![store.events()]);
    }

    /// Reads the whole store one or more times at once, by `read`.
    pub(crate) fn read_by(&mut self, read: impl FnOnce() -> Vec<Vec<(String, String)>>) {
        let start = self.clock.now();
        let reads = read();
        let end = self.clock.now();
        let reads = reads.into_iter();
        self.reads
            .extend(reads.map(|events| Read { start, end, events }));
    }

    /// The number of acknowledged keys that are not in `events`.
    pub(crate) fn lacking(&self, events: &[(String, String)]) -> u64 {
        let found: BTreeSet<&str> = events.iter().map(|(key, _)| key.as_str()).collect();
        let acknowledged = self.acknowledged_keys();
        acknowledged.difference(&found).count() as u64
    }

    /// The keys of acknowledged events.
    pub(crate) fn acknowledged_keys(&self) -> BTreeSet<&str> {
        let puts = self.puts.iter();
        let puts = puts.filter(|put| put.outcome == Outcome::Acknowledged);
        puts.map(|put| put.key.as_str()).collect()
    }

    /// The number of puts with this outcome.
    pub(crate) fn count(&self, outcome: Outcome) -> u64 {
        let puts = self.puts.iter().filter(|put| put.outcome == outcome);
        puts.count() as u64
    }

    /// Asserts that the model allows the history.
    #[track_caller]
    pub(crate) fn check(&self) -> RoundCounts {
        let found = violations(&self.puts, &self.reads);
        let reported = &found[..found.len().min(MAX_REPORTED)];
        let all = found.len();
        assert!(
            found.is_empty(),
            "{all} violations of write-once:\n{}",
            reported.join("\n")
        );
        let acknowledged = self.count(Outcome::Acknowledged);
        assert!(acknowledged > 0, "nothing was acknowledged");
        RoundCounts {
            acknowledged,
            refused: self.count(Outcome::Refused) + self.count(Outcome::Conflict),
            unknown: self.count(Outcome::Unknown) + self.count(Outcome::Unanswered),
            ..RoundCounts::default()
        }
    }
}
