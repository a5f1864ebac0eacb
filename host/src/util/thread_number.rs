//! Numbers the threads of the process, so that each can use a shard of its own.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How many threads have a shard of their own for each processor: threads that do little have numbers too.
const SHARDS_PER_PROCESSOR: usize = 4;

/// A value for each of the first threads, and more for all others together.
#[derive(Debug)]
pub(crate) struct Shards<T> {
    /// Their number is a power of two, so that a thread finds its shard without a division.
    own: Box<[T]>,
    shared: Box<[T]>,
}

impl<T> Shards<T> {
    pub(crate) fn new(make: impl Fn() -> T) -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let number = (SHARDS_PER_PROCESSOR * processors).next_power_of_two();
        let shards = || (0..number).map(|_| make()).collect();
        Self {
            own: shards(),
            shared: shards(),
        }
    }

    /// The shard of this thread, and whether no other thread has it.
    pub(crate) fn own(&self) -> (&T, bool) {
        let number = thread_number();
        match self.own.get(number) {
            Some(shard) => (shard, true),
            None => (&self.shared[number & (self.shared.len() - 1)], false),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.own.iter().chain(&self.shared)
    }
}

/// The number of this thread: threads are numbered from 0 in the order of their first call.
fn thread_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    // Should the number be gone at the end of the thread, it uses a shared shard.
    NUMBER.try_with(|number| *number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::ptr;
    use std::thread;

    use super::Shards;

    #[test]
    fn no_two_threads_have_the_same_shard_as_their_own() {
        // More threads than shards, whatever other tests have numbers.
        let shards = Shards::new(|| 0_u64);
        let threads = shards.iter().count() + 1;
        let own = thread::scope(|scope| {
            let threads: Vec<_> = (0..threads)
                .map(|_| {
                    scope.spawn(|| {
                        let (shard, is_own) = shards.own();
                        assert_eq!(ptr::from_ref(shard), ptr::from_ref(shards.own().0));
                        is_own.then(|| ptr::from_ref(shard).addr())
                    })
                })
                .collect();
            let own = threads
                .into_iter()
                .map(|thread| thread.join().expect("ends"));
            own.collect::<Vec<_>>()
        });
        assert!(own.contains(&None));
        let own: Vec<_> = own.into_iter().flatten().collect();
        assert_eq!(own.iter().collect::<HashSet<_>>().len(), own.len());
    }
}
