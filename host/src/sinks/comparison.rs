//! Compares large events without holding up the runtime or filling the memory.
//!
//! Never decides what a difference means.

use std::sync::Arc;

use alldata_peer_guest::same_event::same_event;
use tokio::sync::Semaphore;

use crate::sink::PutError;

/// The size in bytes of two events up to which they are compared at once, since
/// that takes less than handing them to another thread is worth.
pub(crate) const LARGE_BYTES: usize = 64 * 1024;

/// Compares one pair of large events at a time, which takes some times their size in memory.
#[derive(Debug)]
pub(crate) struct Comparison(Arc<Semaphore>);

impl Default for Comparison {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Comparison {
    /// Whether `sent` is the event that `read_held` reads, on a thread where both may take their
    /// time.
    pub(crate) async fn is_same(
        &self,
        sent: String,
        read_held: impl FnOnce() -> Result<Arc<str>, PutError> + Send + 'static,
    ) -> Result<bool, PutError> {
        let failed = |error: &dyn std::error::Error| PutError::Failed(error.to_string());
        let turn = Arc::clone(&self.0).acquire_owned().await;
        let turn = turn.map_err(|closed| failed(&closed))?;
        let comparison = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            Ok(same_event(&read_held()?, &sent))
        });
        comparison.await.map_err(|panicked| failed(&panicked))?
    }
}
