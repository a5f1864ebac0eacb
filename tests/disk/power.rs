//! A loss of power at a random moment: all acknowledged events are there.
//!
//! Which unsynced changes are on the disk afterwards is random, also of those that the system would have
//! written by itself.

use std::sync::Arc;

use alldata_peer_server_http::sinks::SqliteSink;
use fastrand::Rng;
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::content::Loss;
use crate::disk::Disk;
use crate::fault::Operation::{Sync, Write};
use crate::fault::{Fault, Role};
use crate::load::{History, Load, STORE, runtime};
use crate::rounds::Rounds;

/// The number of rounds in a normal test run.
const ROUNDS: u64 = 4;

/// The number of losses of power in a round.
const LOSSES: usize = 4;

/// The most changes of its files before a new store loses power: it is complete by then.
const BEGINNING_CHANGES: u64 = 60;

/// The most changes before a store loses power: enough for some checkpoints.
const MOST_CHANGES: u64 = 6000;

/// The number of loads after which the power is lost, however few changes they made.
const MOST_LOADS: usize = 12;

#[test]
fn beginnings() {
    Rounds::of("power::beginnings", 16 * ROUNDS).play(|random| {
        let mut store = Store::new(random);
        store.put_until_it_stops(random.u64(..BEGINNING_CHANGES), None, random);
        store.lose_power(random);
        store.history.counts()
    });
}

#[test]
fn losses() {
    Rounds::of("power::losses", ROUNDS).play(|random| {
        let mut store = Store::new(random);
        for _ in 0..LOSSES {
            store.put_until_it_stops(random.u64(..MOST_CHANGES), None, random);
            store.lose_power(random);
        }
        store.history.counts()
    });
}

/// A killed process leaves its writes to the system, which has not synced them yet.
#[test]
fn losses_after_kills() {
    Rounds::of("power::losses_after_kills", 2 * ROUNDS).play(|random| {
        let mut store = Store::new(random);
        for _ in 0..LOSSES {
            store.put_until_it_stops(random.u64(..MOST_CHANGES / 8), None, random);
            store.kill(random);
            store.put_again(random);
            store.put_until_it_stops(random.u64(..MOST_CHANGES / 8), None, random);
            store.lose_power(random);
        }
        store.history.counts()
    });
}

/// The sync after a failed one does not write the pages of that one.
#[test]
fn losses_after_failed_syncs() {
    Rounds::of("power::losses_after_failed_syncs", 2 * ROUNDS).play(|random| {
        let mut store = Store::new(random);
        for _ in 0..LOSSES {
            let fault = Fault {
                operations: &[Sync, Write],
                roles: &[],
                one_in: 1 << random.u8(..10),
                times: 1 << random.u8(..12),
            };
            store.put_until_it_stops(random.u64(..MOST_CHANGES / 4), Some(fault), random);
            if random.bool() {
                store.kill(random);
                store.put_again(random);
                store.put_until_it_stops(random.u64(..MOST_CHANGES / 8), None, random);
            }
            store.lose_power(random);
        }
        store.history.counts()
    });
}

/// While a reader is active, a checkpoint moves a part of the WAL; the sync that matters is that of a later
/// checkpoint.
#[test]
fn losses_after_failed_checkpoints() {
    Rounds::of("power::losses_after_failed_checkpoints", ROUNDS).play(|random| {
        let mut store = Store::new(random);
        let path = store.directory.path().join(STORE);
        let sink = Arc::new(SqliteSink::open(&path).expect("opens"));
        let put = |store: &mut Store, puts_of_a_task, random: &mut Rng| {
            let load = Load {
                keys: u32::MAX,
                puts_of_a_task,
            };
            store.history.put(&store.runtime, &sink, load, random);
        };
        // Fewer than fill the WAL up to the first checkpoint, and then more.
        put(&mut store, 10, random);
        let reader = Connection::open(&path).expect("opens");
        let begin = "BEGIN; SELECT count(*) FROM events";
        reader.execute_batch(begin).expect("begins to read");
        put(&mut store, 120, random);
        reader.execute_batch("COMMIT").expect("ends");
        // A connection that stays open keeps SQLite's index of the WAL.
        let connected = random.bool().then_some(reader);
        store.disk.set_fault(Some(Fault {
            operations: &[Sync],
            roles: &[Role::Database],
            one_in: 1,
            times: 1,
        }));
        put(&mut store, 1, random);
        store.disk.set_fault(None);
        assert!(store.disk.failed() > 0, "there was no checkpoint");
        // The next checkpoint succeeds, and then the WAL is restarted.
        put(&mut store, 3, random);
        store.disk.stop();
        drop((sink, connected));
        store.lose_power(random);
        store.history.counts()
    });
}

/// A store on a disk that stops; its contents are then examined in another directory.
struct Store {
    runtime: Runtime,
    directory: TempDir,
    disk: Arc<Disk>,
    history: History,
}

impl Store {
    /// The path only: there may be no store yet.
    fn new(random: &mut Rng) -> Self {
        let directory = directory();
        Self {
            runtime: runtime(),
            disk: Disk::under(directory.path(), random.u64(..)),
            directory,
            history: History::default(),
        }
    }

    /// Puts until the disk stops after `changes` changes, with faults for some time before.
    fn put_until_it_stops(&mut self, changes: u64, fault: Option<Fault>, random: &mut Rng) {
        self.disk.stop_after(changes);
        // If it stops so early that there is no store, nothing is acknowledged.
        let Ok(sink) = SqliteSink::open(&self.directory.path().join(STORE)) else {
            return;
        };
        let sink = Arc::new(sink);
        self.disk.set_fault(fault);
        for _ in 0..MOST_LOADS {
            let load = Load {
                keys: 1 << random.u8(4..20),
                puts_of_a_task: random.usize(1..30),
            };
            self.history.put(&self.runtime, &sink, load, random);
            if random.bool() {
                self.disk.set_fault(None);
            }
            if self.disk.is_stopped() {
                break;
            }
        }
        // When all keys have their events, nothing changes any more.
        self.disk.stop();
    }

    /// Repeats puts that may be stored, so that they are acknowledged, and stops.
    fn put_again(&mut self, random: &mut Rng) {
        let path = self.directory.path().join(STORE);
        if random.bool()
            && let Ok(sink) = SqliteSink::open(&path)
        {
            self.history.put_again(&self.runtime, &sink, random);
            self.disk.stop();
        }
    }

    /// Ends the process: its writes stay.
    fn kill(&mut self, random: &mut Rng) {
        let next = directory();
        self.disk = self.disk.kill(next.path(), random.u64(..));
        self.directory = next;
    }

    fn lose(&mut self, loss: Loss, random: &mut Rng) {
        let next = directory();
        self.disk.lose_power(next.path(), loss, random);
        self.directory = next;
        self.disk = Disk::under(self.directory.path(), random.u64(..));
    }

    /// The contents of the disk after the loss are checked, and the store continues with them.
    fn lose_power(&mut self, random: &mut Rng) {
        self.lose(Loss::random(random), random);
        // Sometimes the server opens the store first. Only it can undo an incomplete creation.
        if self.history.is_acknowledged() && random.bool() {
            self.history.assert_kept(self.directory.path());
        }
        let path = self.directory.path().join(STORE);
        let sink = SqliteSink::open(&path).expect("opens after a loss of power");
        self.history.put_again(&self.runtime, &sink, random);
        drop(sink);
        self.history.assert_kept(self.directory.path());
    }
}

#[test]
fn retry_after_a_kill_is_synced() {
    for changes in 0.. {
        let mut random = Rng::with_seed(changes);
        let mut store = Store::new(&mut random);
        let put = |store: &mut Store, key| {
            let sink = SqliteSink::open(&store.directory.path().join(STORE)).expect("opens");
            store.history.put_one(&store.runtime, &sink, key, "1")
        };
        assert_eq!(put(&mut store, "before"), Ok(()));
        let sink = SqliteSink::open(&store.directory.path().join(STORE)).expect("opens");
        store.disk.stop_after(changes);
        let is_stored = (store.history).put_one(&store.runtime, &sink, "key", "1");
        if is_stored.is_ok() {
            break;
        }
        drop(sink);
        store.kill(&mut random);
        let sink = SqliteSink::open(&store.directory.path().join(STORE)).expect("opens");
        let again = (store.history).put_one(&store.runtime, &sink, "key", "1");
        assert_eq!(again, Ok(()));
        store.disk.stop();
        drop(sink);
        store.lose(Loss::Everything, &mut random);
        store.history.assert_kept(store.directory.path());
    }
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("makes a directory")
}
