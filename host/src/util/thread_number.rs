//! Numbers the threads of the process, so that each can use a shard of its own.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of this thread: threads are numbered from 0 in the order of their first call.
pub(crate) fn thread_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.try_with(|number| *number).unwrap_or_default()
}
