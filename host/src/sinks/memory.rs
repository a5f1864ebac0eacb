//! The sink `memory:`: a bounded write-once store in memory, which is lost at exit.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alldata_peer_protocol::same_event::same_event;

use crate::sink::comparison::{Comparison, SMALL_BYTES, StoredId};
use crate::sink::reason::Reason;
use crate::sink::unavailable_reasons::UnavailableReasons;
use crate::sink::{BoxSink, OPERATOR_RETRY_SECONDS, PutError, PutSink, SinkInternals};

/// The most bytes of memory that `memory:` uses for its events: as much as a small machine can spare.
pub const MEMORY_SINK_BYTES: usize = 256 * 1024 * 1024;

/// The memory of an event in addition to its own bytes and those of its key: the entry of the map, and the
/// overhead of the allocator for both texts.
const EVENT_OVERHEAD_BYTES: usize = 128;

/// A bounded write-once store in memory.
#[derive(Debug)]
pub struct MemorySink {
    capacity_bytes: usize,
    events: Mutex<Events>,
    comparison: Comparison,
    reasons: Arc<UnavailableReasons>,
}

/// A stored event, and the digest of its key, which identifies it: the event of a key never changes.
struct StoredEvent {
    id: StoredId,
    event: Arc<str>,
}

#[derive(Debug, Default)]
struct Events {
    by_key: HashMap<String, Arc<str>>,
    bytes: usize,
}

impl MemorySink {
    /// A store for `capacity_bytes` bytes of keys and events, including some overhead for each event.
    #[must_use]
    pub fn new(capacity_bytes: usize) -> Self {
        let reasons = Arc::<UnavailableReasons>::default();
        Self {
            capacity_bytes,
            events: Mutex::default(),
            comparison: Comparison::with_reasons(Arc::clone(&reasons)),
            reasons,
        }
    }

    /// The event under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<String> {
        self.lock().by_key.get(key).map(ToString::to_string)
    }

    /// The number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().by_key.len()
    }

    /// Whether there is no event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes are counted after the insertion, so a poisoned lock is still consistent.
    fn lock(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemorySink {
    /// Stores an event under an unused key, or returns the event that is stored under the key.
    fn insert(&self, key: String, event: &str) -> Result<Option<StoredEvent>, PutError> {
        let events = &mut *self.lock();
        let bytes = key.len() + event.len() + EVENT_OVERHEAD_BYTES;
        match events.by_key.entry(key) {
            Entry::Occupied(stored) => Ok(Some(StoredEvent {
                id: blake3::hash(stored.key().as_bytes()).into(),
                event: Arc::clone(stored.get()),
            })),
            Entry::Vacant(_) if bytes > self.capacity_bytes - events.bytes => {
                self.reasons.record(Reason::MemoryFull);
                Err(PutError::Unavailable {
                    retry_after_seconds: OPERATOR_RETRY_SECONDS,
                })
            }
            Entry::Vacant(entry) => {
                entry.insert(Arc::from(event));
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
            Some(stored) if *stored.event == *event => true,
            Some(stored) if stored.event.len().max(event.len()) <= SMALL_BYTES => {
                same_event(&stored.event, &event)
            }
            Some(stored) => {
                let read_stored = || Ok(stored.event);
                self.comparison
                    .is_same(event, stored.id, read_stored)
                    .await?
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
        BoxSink::with_internals(
            self,
            SinkInternals {
                reasons,
                ..SinkInternals::default()
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{EVENT_OVERHEAD_BYTES, MemorySink};
    use crate::sink::reason::Reason;
    use crate::sink::{PutError, PutSink as _};

    #[tokio::test]
    async fn full_memory_is_recorded_as_reason() {
        let sink = MemorySink::new(EVENT_OVERHEAD_BYTES + 2).boxed();
        let put = |key: &str| sink.put(key.to_owned(), "1".to_owned());
        assert_eq!(put("a").await, Ok(()));
        let full = put("b").await;
        assert!(
            matches!(full, Err(PutError::Unavailable { .. })),
            "{full:?}"
        );
        assert_eq!(sink.unavailable_reason(), Reason::MemoryFull);
        // Without a recorded reason the general one is returned.
        assert_eq!(sink.unavailable_reason(), Reason::SinkUnavailable);
    }
}
