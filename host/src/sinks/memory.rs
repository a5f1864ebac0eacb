//! Events in memory: write-once like the real ones, gone at exit.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alldata_peer_protocol::same_event::same_event;

use crate::sink::comparison::{Comparison, HeldId, SMALL_BYTES};
use crate::sink::reason::Reason;
use crate::sink::unavailable_reasons::UnavailableReasons;
use crate::sink::{BoxSink, PutError, PutSink};

/// How many bytes of memory `memory:` takes for its events: what a small machine can spare.
pub const MEMORY_SINK_BYTES: usize = 256 * 1024 * 1024;

/// What an event takes in memory beside its own bytes and those of its key: the entry of the map,
/// and what the allocator adds to both texts.
const EVENT_OVERHEAD_BYTES: usize = 128;

/// After how many seconds to try a put again that found the memory full. It stays full, but
/// another peer may take the event meanwhile.
const FULL_RETRY_SECONDS: u32 = 60;

/// A bounded write-once store in memory.
#[derive(Debug)]
pub struct MemorySink {
    capacity_bytes: usize,
    events: Mutex<Events>,
    comparison: Comparison,
    reasons: Arc<UnavailableReasons>,
}

/// What a key holds, and that key in short, which identifies it: it is never another event.
struct Held {
    id: HeldId,
    event: Arc<str>,
}

#[derive(Debug, Default)]
struct Events {
    by_key: HashMap<String, Arc<str>>,
    bytes: usize,
}

impl MemorySink {
    /// A store for `capacity_bytes` bytes of keys, events and what belongs to them in memory.
    #[must_use]
    pub fn new(capacity_bytes: usize) -> Self {
        let reasons = Arc::<UnavailableReasons>::default();
        Self {
            capacity_bytes,
            events: Mutex::default(),
            comparison: Comparison::noting_in(Arc::clone(&reasons)),
            reasons,
        }
    }

    /// The event under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<String> {
        self.lock().by_key.get(key).map(ToString::to_string)
    }

    /// How many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().by_key.len()
    }

    /// Whether there is no event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes are counted after the insertion they belong to, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemorySink {
    /// Stores an event under a key that is free, or returns what the key holds.
    fn insert(&self, key: String, event: &str) -> Result<Option<Held>, PutError> {
        let events = &mut *self.lock();
        let bytes = key.len() + event.len() + EVENT_OVERHEAD_BYTES;
        match events.by_key.entry(key) {
            Entry::Occupied(held) => Ok(Some(Held {
                id: blake3::hash(held.key().as_bytes()).into(),
                event: Arc::clone(held.get()),
            })),
            Entry::Vacant(_) if bytes > self.capacity_bytes - events.bytes => {
                self.reasons.note(Reason::MemoryFull);
                Err(PutError::Unavailable {
                    retry_after_seconds: FULL_RETRY_SECONDS,
                })
            }
            Entry::Vacant(place) => {
                place.insert(Arc::from(event));
                events.bytes += bytes;
                Ok(None)
            }
        }
    }
}

impl PutSink for MemorySink {
    async fn put(&self, key: String, event: String) -> Result<(), PutError> {
        let is_same = match self.insert(key, &event)? {
            None => true,
            Some(held) if *held.event == *event => true,
            Some(held) if held.event.len().max(event.len()) <= SMALL_BYTES => {
                same_event(&held.event, &event)
            }
            Some(held) => {
                let read_held = || Ok(held.event);
                self.comparison.is_same(event, held.id, read_held).await?
            }
        };
        if is_same {
            Ok(())
        } else {
            Err(PutError::Conflict)
        }
    }

    fn boxed(self) -> BoxSink {
        let reasons = Arc::clone(&self.reasons);
        BoxSink::with_reasons(self, reasons)
    }
}

#[cfg(test)]
mod tests {
    use super::{EVENT_OVERHEAD_BYTES, MemorySink};
    use crate::sink::reason::Reason;
    use crate::sink::{PutError, PutSink as _};

    #[tokio::test]
    async fn full_memory_is_the_reason() {
        let sink = MemorySink::new(EVENT_OVERHEAD_BYTES + 2).boxed();
        let put = |key: &str| sink.put(key.to_owned(), "1".to_owned());
        assert_eq!(put("a").await, Ok(()));
        let full = put("b").await;
        assert!(
            matches!(full, Err(PutError::Unavailable { .. })),
            "{full:?}"
        );
        assert_eq!(sink.unavailable_reason(), Reason::MemoryFull);
        // What nobody noted is told in general.
        assert_eq!(sink.unavailable_reason(), Reason::SinkUnavailable);
    }
}
