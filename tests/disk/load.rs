//! Puts from many tasks at once, and what the store may hold after them.
//!
//! Never makes a fault.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use alldata_peer_server_http::sinks::SqliteSink;
use alldata_peer_server_http::store::StoreReader;
use alldata_peer_server_http::{PutError, PutSink as _};
use fastrand::Rng;
use rusqlite::{Connection, OpenFlags};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::rounds::RoundCounts;

/// How many tasks put at a time.
const TASKS: u64 = 12;

/// How many different events are put under one key.
const EVENTS: u32 = 3;

/// The size in bytes that most events have less of: some fit a page of the database, some do not.
const MOST_BYTES: usize = 8 * 1024;

/// The size in bytes of a large event, which the sink compares by reading it from the store.
const LARGE_BYTES: usize = 80 * 1024;

/// One of how many events is large.
const LARGE_ONE_IN: u32 = 50;

/// The name of a store's file in its directory.
pub(crate) const STORE: &str = "alldata.db";

/// A put and its answer.
type Answer = (String, String, Result<(), PutError>);

/// All puts to a store and their answers, whatever became of the store in between.
#[derive(Debug, Default)]
pub(crate) struct History {
    answers: Vec<Answer>,
    /// Of the last load in which any failed, the first that failed of each task.
    first_failed: Vec<(String, String)>,
}

/// What is put.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Out of how many keys: few meet each other, many fill the store.
    pub(crate) keys: u32,
    pub(crate) puts_of_a_task: usize,
}

/// A runtime for the tasks.
pub(crate) fn runtime() -> Runtime {
    let runtime = Builder::new_multi_thread().worker_threads(2).build();
    runtime.expect("starts")
}

/// The event of a key that has a number. The number of the key is so many bits of chance.
fn event(key: u32, number: u32) -> String {
    let mut random = Rng::with_seed(u64::from(key) << 32 | u64::from(number));
    let length = match random.u32(..LARGE_ONE_IN) {
        0 => LARGE_BYTES,
        _ => random.usize(..MOST_BYTES) >> random.u8(..8),
    };
    let word = format!("{:016x}", random.u64(..));
    let text = word.repeat(length.div_ceil(word.len()));
    format!("{{\"number\":{number},\"text\":\"{text}\"}}")
}

impl History {
    /// Puts from many tasks at once, and waits for all answers.
    pub(crate) fn put(
        &mut self,
        runtime: &Runtime,
        sink: &Arc<SqliteSink>,
        load: Load,
        random: &mut Rng,
    ) {
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for _ in 0..TASKS {
                let (sink, mut random) = (Arc::clone(sink), random.fork());
                tasks.spawn(async move {
                    let mut answers = Vec::new();
                    for _ in 0..load.puts_of_a_task {
                        let number = random.u32(..load.keys);
                        let (key, event) =
                            (format!("key{number}"), event(number, random.u32(..EVENTS)));
                        let result = sink.put(key.clone(), event.clone()).await;
                        answers.push((key, event, result));
                    }
                    answers
                });
            }
            let mut first_failed = Vec::new();
            while let Some(answers) = tasks.join_next().await {
                let mut answers: Vec<Answer> = answers.expect("puts");
                let failed = |(_, _, result): &&Answer| matches!(result, Err(PutError::Failed(_)));
                let first = answers.iter().find(failed);
                first_failed.extend(first.map(|(key, event, _)| (key.clone(), event.clone())));
                self.answers.append(&mut answers);
            }
            if !first_failed.is_empty() {
                self.first_failed = first_failed;
            }
        });
    }

    /// Puts one event, and says what the sink answers.
    pub(crate) fn put_one(
        &mut self,
        runtime: &Runtime,
        sink: &SqliteSink,
        key: &str,
        event: &str,
    ) -> Result<(), PutError> {
        let (key, event) = (key.to_owned(), event.to_owned());
        let result = runtime.block_on(sink.put(key.clone(), event.clone()));
        self.answers.push((key, event, result.clone()));
        result
    }

    /// Puts again, one after the other, some of the first puts that failed when the disk stopped:
    /// what was being written then may be stored.
    pub(crate) fn put_again(&mut self, runtime: &Runtime, sink: &SqliteSink, random: &mut Rng) {
        let mut again = self.first_failed.clone();
        random.shuffle(&mut again);
        again.truncate(random.usize(1..4));
        for (key, event) in again {
            let _ = self.put_one(runtime, sink, &key, &event);
        }
    }

    /// Holds that the store in a directory has what it may have after all these answers, read as
    /// the product does and as any other program would.
    #[track_caller]
    pub(crate) fn assert_kept(&self, directory: &Path) {
        let path = directory.join(STORE);
        let stored = read(&path);
        let mut may_be_stored = BTreeSet::new();
        for (key, event, result) in &self.answers {
            let held = stored.get(key);
            let is_held = held == Some(event);
            match result {
                Ok(()) => assert!(is_held, "lost: {key} {event:.40} of {held:.40?}"),
                Err(PutError::Conflict) => {
                    assert!(!is_held && held.is_some(), "no conflict: {key} {event:.40}");
                }
                Err(PutError::Failed(_) | PutError::Unknown) => {}
                Err(PutError::Unavailable { .. }) => continue,
                Err(PutError::Rejected(reason)) => panic!("rejected: {reason}"),
            }
            may_be_stored.insert((key, event));
        }
        for (key, event) in &stored {
            let may_be = may_be_stored.contains(&(key, event));
            assert!(may_be, "stored, but answered with no: {key} {event:.40}");
        }
    }

    /// Whether any put was acknowledged, so that there has to be a store.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.answers.iter().any(|(_, _, result)| result.is_ok())
    }

    pub(crate) fn counts(&self) -> RoundCounts {
        let mut counts = RoundCounts::default();
        for (_, _, result) in &self.answers {
            match result {
                Ok(()) => counts.acknowledged += 1,
                Err(PutError::Failed(_) | PutError::Unknown) => counts.unknown += 1,
                Err(_) => counts.refused += 1,
            }
        }
        counts
    }
}

/// All events of a store, which is whole.
#[track_caller]
fn read(path: &Path) -> BTreeMap<String, String> {
    let reader = StoreReader::open(path).expect("opens");
    let found = reader.verify(|_| {}).expect("verifies");
    assert!(found.is_clean(), "{found:?}");
    let mut stored = BTreeMap::new();
    let visited = reader.visit(None, None, |event| {
        stored.insert(event.key, event.event);
        Ok::<_, alldata_peer_server_http::Error>(())
    });
    visited.expect("reads");
    drop(reader);
    assert!(stored == read_past_the_disk(path), "others read otherwise");
    stored
}

/// What a program reads that has SQLite as it comes.
fn read_past_the_disk(path: &Path) -> BTreeMap<String, String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = Connection::open_with_flags_and_vfs(path, flags, c"unix").expect("opens");
    let mut select = database.prepare("SELECT key, event FROM events");
    let rows = select.as_mut().expect("prepares").query_map((), |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    });
    let rows: Result<Vec<_>, _> = rows.expect("reads").collect();
    let rows = rows.expect("reads");
    let count = rows.len();
    let events: BTreeMap<String, String> = rows.into_iter().collect();
    assert_eq!(events.len(), count, "a key stands twice");
    events
}
