//! Operations on the store's files that fail for a while.
//!
//! Asserted after each: acknowledged events are there once and unchanged, events that were refused are not
//! there, the file is undamaged, and the next put is stored. A loss of power is in `power`.

use std::sync::Arc;

use alldata_peer_server_http::sinks::SqliteSink;
use fastrand::Rng;

use crate::disk::Disk;
use crate::fault::Operation::{
    Access, Delete, Lock, Open, Read, ShmLock, ShmMap, Size, Sync, Truncate, Write,
};
use crate::fault::{Fault, Operation, Role};
use crate::load::{History, Load, STORE, runtime};
use crate::rounds::{RoundCounts, Rounds};

/// The number of rounds of each fault in a normal test run.
const ROUNDS: u64 = 4;

/// The number of fault periods in a round.
const TROUBLES: usize = 4;

/// All operations that can fail.
const EVERYTHING: &[Operation] = &[
    Access, Delete, Lock, Open, Read, ShmLock, ShmMap, Size, Sync, Truncate, Write,
];

#[test]
fn writes() {
    play("faults::writes", &[Write], &[]);
}

#[test]
fn syncs_of_the_log() {
    play("faults::syncs_of_the_log", &[Sync], &[Role::Log]);
}

#[test]
fn checkpoints() {
    let operations = &[Read, Size, Sync, Truncate, Write];
    play("faults::checkpoints", operations, &[Role::Database]);
}

#[test]
fn reads() {
    play("faults::reads", &[Read], &[]);
}

#[test]
fn shared_memory() {
    play("faults::shared_memory", &[ShmLock, ShmMap], &[]);
}

#[test]
fn everything() {
    play("faults::everything", EVERYTHING, &[]);
}

fn play(fault: &'static str, operations: &'static [Operation], roles: &'static [Role]) {
    let mut failed = 0;
    Rounds::of(fault, ROUNDS).play(|random| {
        let (counts, failed_in_round) = round(operations, roles, random);
        failed += failed_in_round;
        counts
    });
    assert!(failed > 0, "nothing failed");
}

fn round(
    operations: &'static [Operation],
    roles: &'static [Role],
    random: &mut Rng,
) -> (RoundCounts, u64) {
    let runtime = runtime();
    let directory = tempfile::tempdir().expect("makes a directory");
    let disk = Disk::under(directory.path(), random.u64(..));
    let sink = SqliteSink::open(&directory.path().join(STORE)).expect("opens");
    let sink = Arc::new(sink);
    let mut history = History::default();
    for number in 0..TROUBLES {
        let load = Load {
            keys: 1 << random.u8(3..12),
            puts_of_a_task: random.usize(10..60),
        };
        disk.set_fault(Some(Fault {
            operations,
            roles,
            one_in: 1 << random.u8(..10),
            times: 1 << random.u8(..12),
        }));
        history.put(&runtime, &sink, load, random);
        disk.set_fault(None);
        let key = format!("after{number}");
        let result = history.put_one(&runtime, &sink, &key, "1");
        assert_eq!(result, Ok(()), "the fault is over");
        history.assert_kept(directory.path());
        history.put_again(&runtime, &sink, random);
    }
    drop(sink);
    history.assert_kept(directory.path());
    (history.counts(), disk.failed())
}
