//! Events in memory: write-once like the real ones, gone at exit.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::same_event::same_event;
use crate::sink::{PutError, PutSink};

/// How many bytes of keys and events `memory:` holds.
pub const MEMORY_SINK_BYTES: usize = 256 * 1024 * 1024;

/// After how many seconds to try a put again that found the memory full. It stays full, but
/// another peer may take the event meanwhile.
const FULL_RETRY_SECONDS: u32 = 60;

/// A bounded write-once store in memory.
#[derive(Debug)]
pub struct MemorySink {
    capacity_bytes: usize,
    events: Mutex<Events>,
}

#[derive(Debug, Default)]
struct Events {
    by_key: HashMap<String, String>,
    bytes: usize,
}

impl MemorySink {
    /// A store for `capacity_bytes` bytes of keys and events.
    #[must_use]
    pub fn new(capacity_bytes: usize) -> Self {
        Self {
            capacity_bytes,
            events: Mutex::default(),
        }
    }

    /// The event under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<String> {
        self.lock().by_key.get(key).cloned()
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

impl PutSink for MemorySink {
    async fn put(&self, key: String, event: String) -> Result<(), PutError> {
        let events = &mut *self.lock();
        let bytes = key.len() + event.len();
        match events.by_key.entry(key) {
            Entry::Occupied(held) if same_event(held.get(), &event) => Ok(()),
            Entry::Occupied(_) => Err(PutError::Conflict),
            Entry::Vacant(_) if bytes > self.capacity_bytes - events.bytes => {
                Err(PutError::Unavailable {
                    retry_after_seconds: FULL_RETRY_SECONDS,
                })
            }
            Entry::Vacant(place) => {
                place.insert(event);
                events.bytes += bytes;
                Ok(())
            }
        }
    }
}
