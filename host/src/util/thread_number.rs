//! Numbers the threads of the process, so that each can use a shard of its own.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How many shards there are for each processor. Threads that do little have numbers too: with fewer shards, two threads
/// that are always busy could share one.
const SHARDS_PER_PROCESSOR: usize = 4;

/// The number of this thread: threads are numbered from 0 in the order of their first call.
pub(crate) fn thread_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.try_with(|number| *number).unwrap_or_default()
}

/// As many shards as threads need: a power of two, so that a thread finds its own without a division.
pub(crate) fn shards<T>(make: impl Fn() -> T) -> Box<[T]> {
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let number = (SHARDS_PER_PROCESSOR * processors).next_power_of_two();
    (0..number).map(|_| make()).collect()
}

/// The shard of this thread.
pub(crate) fn own_shard<T>(shards: &[T]) -> &T {
    &shards[thread_number() & (shards.len() - 1)]
}
