//! Compares the event of a put with the stored event of its key, by value.
//!
//! The processor time is bounded by the event that was sent: the value digest of a large stored event is
//! computed once and then cached. Large events are compared on a blocking thread, one at a time, and only a
//! few puts may wait for that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use alldata_peer_protocol::same_event::{VALUE_DIGEST_BYTES, value_digest};
use tokio::sync::Semaphore;

use crate::sink::reason::Reason;
use crate::sink::unavailable_reasons::UnavailableReasons;
use crate::sink::{BUSY_RETRY_SECONDS, PutError};

/// The size in bytes up to which an event is small: computing its value digest takes some 20 µs, less than
/// handing it to another thread. This is independent of the thresholds of queues and quotas, which are
/// about memory.
pub(crate) const SMALL_BYTES: usize = 4096;

/// How many value digests of large events are computed at a time: each takes up to eight times the size of
/// the event in memory, and the other processors are for puts.
const MAX_COMPUTING: usize = 1;

/// How many puts may wait for that, so that they use few of the permits for requests. The largest event
/// takes about 0.1 s.
const MAX_WAITING: usize = 16;

/// How many value digests of large stored events are cached, twice this number at most: both tables take
/// some 2 MB when they are full.
const KNOWN_EVENTS: usize = 8192;

/// Identifies a stored event, such as its digest.
pub(crate) type StoredId = [u8; 32];

/// The value digest of an event; `None` if it is not JSON.
type Value = Option<[u8; VALUE_DIGEST_BYTES]>;

/// Compares large events, and small events with large stored ones.
#[derive(Debug)]
pub(crate) struct Comparison {
    known: Arc<Mutex<KnownValues>>,
    computing: Arc<Semaphore>,
    waiting: Semaphore,
    /// Records why puts were unavailable.
    reasons: Arc<UnavailableReasons>,
}

impl Default for Comparison {
    fn default() -> Self {
        Self::with_reasons(Arc::default())
    }
}

impl Comparison {
    /// A comparison that records in `reasons` why a put was unavailable, as its sink does.
    pub(crate) fn with_reasons(reasons: Arc<UnavailableReasons>) -> Self {
        Self {
            known: Arc::default(),
            computing: Arc::new(Semaphore::new(MAX_COMPUTING)),
            waiting: Semaphore::new(MAX_WAITING),
            reasons,
        }
    }

    /// Whether the cache shows that `sent` has another value than the stored event. Always false for a
    /// large `sent`.
    #[cfg(feature = "nats")]
    pub(crate) fn is_known_to_differ(&self, sent: &str, stored: &StoredId) -> bool {
        sent.len() <= SMALL_BYTES
            && find(&self.known, stored).is_some_and(|stored| !are_same(value_digest(sent), stored))
    }

    /// Caches the value digest of a stored event under another id too, if it is cached.
    #[cfg(feature = "nats")]
    pub(crate) fn add_alias(&self, stored: &StoredId, other: StoredId) {
        let mut known = lock(&self.known);
        if let Some(value) = known.find(stored) {
            known.insert(other, value);
        }
    }

    /// Whether `sent` has the same value as the stored event. `read_stored` reads that event; it is called on
    /// a blocking thread, and only if the value digest is not cached.
    pub(crate) async fn is_same<H: AsRef<str>>(
        &self,
        sent: String,
        stored: StoredId,
        read_stored: impl FnOnce() -> Result<H, PutError> + Send + 'static,
    ) -> Result<bool, PutError> {
        let is_small = sent.len() <= SMALL_BYTES;
        if is_small && let Some(stored) = find(&self.known, &stored) {
            return Ok(are_same(value_digest(&sent), stored));
        }
        let waiting = self.waiting.try_acquire();
        let _waiting = waiting.map_err(|_all_taken| {
            self.reasons.record(Reason::ComparisonBusy);
            PutError::Unavailable {
                retry_after_seconds: BUSY_RETRY_SECONDS,
            }
        })?;
        let failed = |error: &dyn std::error::Error| PutError::Failed(error.to_string());
        let turn = Arc::clone(&self.computing).acquire_owned().await;
        let turn = turn.map_err(|closed| failed(&closed))?;
        // Another put may have computed it meanwhile.
        if is_small && let Some(stored) = find(&self.known, &stored) {
            return Ok(are_same(value_digest(&sent), stored));
        }
        let known = Arc::clone(&self.known);
        // Completes even if the put that waits for it is dropped.
        let comparison = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let value = match find(&known, &stored) {
                Some(value) => value,
                None => {
                    let value = value_digest(read_stored()?.as_ref());
                    lock(&known).insert(stored, value);
                    value
                }
            };
            Ok(are_same(value_digest(&sent), value))
        });
        comparison.await.map_err(|panicked| failed(&panicked))?
    }
}

fn are_same(sent: Value, stored: Value) -> bool {
    sent.is_some() && sent == stored
}

fn find(known: &Mutex<KnownValues>, stored: &StoredId) -> Option<Value> {
    lock(known).find(stored)
}

/// Each change leaves the tables consistent, so a poisoned lock is still good.
fn lock(known: &Mutex<KnownValues>) -> std::sync::MutexGuard<'_, KnownValues> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The value digests of the stored events that were compared last.
#[derive(Debug, Default)]
struct KnownValues {
    recent: HashMap<StoredId, Value>,
    /// The previous generation of `recent`. Digests that are not used until the next generation are
    /// dropped.
    older: HashMap<StoredId, Value>,
}

impl KnownValues {
    fn find(&mut self, stored: &StoredId) -> Option<Value> {
        if let Some(value) = self.recent.get(stored) {
            return Some(*value);
        }
        let value = self.older.remove(stored)?;
        self.insert(*stored, value);
        Some(value)
    }

    fn insert(&mut self, stored: StoredId, value: Value) {
        if self.recent.len() == KNOWN_EVENTS {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(stored, value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::{Comparison, KNOWN_EVENTS, KnownValues, MAX_WAITING, SMALL_BYTES, StoredId};
    use crate::sink::PutError;

    const STORED: StoredId = [1; 32];

    fn stored() -> String {
        format!("[{}1]", "1,".repeat(SMALL_BYTES))
    }

    #[tokio::test]
    async fn stored_event_is_read_once_with_bounded_waiters() {
        let comparison = Arc::new(Comparison::default());
        let reads = Arc::new(AtomicUsize::new(0));
        let (go, wait) = mpsc::channel::<()>();
        let wait = Arc::new(std::sync::Mutex::new(wait));
        let put = |event: &str| {
            let (comparison, event) = (Arc::clone(&comparison), event.to_owned());
            let (reads, wait) = (Arc::clone(&reads), Arc::clone(&wait));
            async move {
                let read = move || {
                    reads.fetch_add(1, Ordering::Relaxed);
                    let wait = wait.lock().expect("is whole");
                    wait.recv().expect("is released");
                    Ok(stored())
                };
                comparison.is_same(event, STORED, read).await
            }
        };
        let waiting: Vec<_> = (0..MAX_WAITING).map(|_| tokio::spawn(put("2"))).collect();
        while comparison.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..1000 {
            let unavailable = PutError::Unavailable {
                retry_after_seconds: 1,
            };
            assert_eq!(put("2").await, Err(unavailable));
        }
        go.send(()).expect("is read");
        for waiting in waiting {
            assert_eq!(waiting.await.expect("ends"), Ok(false));
        }
        assert_eq!(put(&stored().replace(',', ", ")).await, Ok(true));
        assert_eq!(put("2").await, Ok(false));
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn failed_read_is_repeated() {
        let comparison = Comparison::default();
        let error = PutError::Failed("damaged".to_owned());
        let fail = error.clone();
        let read = move || Err::<String, _>(fail);
        assert_eq!(
            comparison.is_same("2".to_owned(), STORED, read).await,
            Err(error)
        );
        let same = comparison.is_same(stored(), STORED, || Ok(stored())).await;
        assert_eq!(same, Ok(true));
    }

    #[tokio::test]
    async fn invalid_json_equals_no_event() {
        let comparison = Comparison::default();
        for event in ["", "[1 2]"] {
            let same = comparison.is_same(event.to_owned(), STORED, || Ok("[1 2]"));
            assert_eq!(same.await, Ok(false), "{event:?}");
        }
    }

    #[test]
    fn used_digests_stay_cached_within_bound() {
        let id = |number: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_le_bytes());
            id
        };
        let mut known = KnownValues::default();
        for number in 0..10 * KNOWN_EVENTS {
            known.insert(id(number), None);
            assert_eq!(known.find(&id(0)), Some(None), "{number}");
        }
        assert_eq!(known.find(&id(1)), None);
        assert!(known.recent.len() + known.older.len() <= 2 * KNOWN_EVENTS);
    }
}
