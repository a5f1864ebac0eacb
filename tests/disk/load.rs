//! Puts from many tasks at once, and the possible contents of the store after them.

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

/// The number of tasks that put.
const TASKS: u64 = 12;

/// The number of different events under one key.
const EVENTS: u32 = 3;

/// The size in bytes below which most events are: some fit a page of the database, some do not.
const MOST_BYTES: usize = 8 * 1024;

/// The size in bytes of a large event, which the sink reads from the store to compare it.
const LARGE_BYTES: usize = 80 * 1024;

/// One in this many events is large.
const LARGE_ONE_IN: u32 = 50;

/// The file name of the store in its directory.
pub(crate) const STORE: &str = "alldata.db";

/// A put and its result.
type PutResult = (String, String, Result<(), PutError>);

/// All puts to a store and their results, also across restarts.
#[derive(Debug, Default)]
pub(crate) struct History {
    results: Vec<PutResult>,
    /// The first failed put of each task in the last load in which any failed.
    first_failed: Vec<(String, String)>,
}

/// The puts of a load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// The number of keys: few cause conflicts, many fill the store.
    pub(crate) keys: u32,
    pub(crate) puts_of_a_task: usize,
}

/// A runtime for the tasks.
pub(crate) fn runtime() -> Runtime {
    let runtime = Builder::new_multi_thread().worker_threads(2).build();
    runtime.expect("starts")
}

/// The event of a key with a number. Bits of the key's number decide its size and contents.
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
    /// Puts from many tasks at once, and waits for all results.
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
                    let mut results = Vec::new();
                    for _ in 0..load.puts_of_a_task {
                        let number = random.u32(..load.keys);
                        let (key, event) =
                            (format!("key{number}"), event(number, random.u32(..EVENTS)));
                        let result = sink.put(key.clone(), event.clone()).await;
                        results.push((key, event, result));
                    }
                    results
                });
            }
            let mut first_failed = Vec::new();
            while let Some(results) = tasks.join_next().await {
                let mut results: Vec<PutResult> = results.expect("puts");
                let failed =
                    |(_, _, result): &&PutResult| matches!(result, Err(PutError::Failed(_)));
                let first = results.iter().find(failed);
                first_failed.extend(first.map(|(key, event, _)| (key.clone(), event.clone())));
                self.results.append(&mut results);
            }
            if !first_failed.is_empty() {
                self.first_failed = first_failed;
            }
        });
    }

    /// Puts one event, and returns the result of the sink.
    pub(crate) fn put_one(
        &mut self,
        runtime: &Runtime,
        sink: &SqliteSink,
        key: &str,
        event: &str,
    ) -> Result<(), PutError> {
        let (key, event) = (key.to_owned(), event.to_owned());
        let result = runtime.block_on(sink.put(key.clone(), event.clone()));
        self.results.push((key, event, result.clone()));
        result
    }

    /// Repeats, one after the other, some of the first puts that failed when the disk stopped: these may be
    /// stored.
    pub(crate) fn put_again(&mut self, runtime: &Runtime, sink: &SqliteSink, random: &mut Rng) {
        let mut again = self.first_failed.clone();
        random.shuffle(&mut again);
        again.truncate(random.usize(1..4));
        for (key, event) in again {
            let _ = self.put_one(runtime, sink, &key, &event);
        }
    }

    /// Asserts that the contents of a store are possible after all these results, read by `StoreReader` and by
    /// plain SQLite.
    #[track_caller]
    pub(crate) fn assert_kept(&self, directory: &Path) {
        let path = directory.join(STORE);
        let stored = read(&path);
        let mut may_be_stored = BTreeSet::new();
        for (key, event, result) in &self.results {
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
        self.results.iter().any(|(_, _, result)| result.is_ok())
    }

    pub(crate) fn counts(&self) -> RoundCounts {
        let mut counts = RoundCounts::default();
        for (_, _, result) in &self.results {
            match result {
                Ok(()) => counts.acknowledged += 1,
                Err(PutError::Failed(_) | PutError::Unknown) => counts.unknown += 1,
                Err(_) => counts.refused += 1,
            }
        }
        counts
    }
}

/// All events of a store, which has to be undamaged.
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

/// The events as plain SQLite reads them.
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
