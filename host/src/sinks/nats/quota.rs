//! Limits how many puts, and how many bytes of them, are in progress. A put over a limit is refused, and does not
//! wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::metrics::sink_metrics::QueueMetrics;
use crate::sink::group_commit::QueueLimits;
use crate::sink::reason::Reason;

/// The limits, and how much of each is in use.
#[derive(Debug)]
pub(super) struct Quota(Arc<QueueMetrics>);

/// The share of one put, released when dropped.
pub(super) struct QuotaPermit<'a> {
    quota: &'a QueueMetrics,
    bytes: usize,
}

impl Quota {
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self(Arc::new(QueueMetrics::new(
            limits.puts.max(1),
            limits.bytes,
        )))
    }

    /// How much is in use.
    pub(super) fn metrics(&self) -> Arc<QueueMetrics> {
        Arc::clone(&self.0)
    }

    /// Reserves a put and its bytes, where both are below their limits. The last put may exceed that of bytes.
    pub(super) fn try_acquire(&self, bytes: usize) -> Result<QuotaPermit<'_>, Reason> {
        let Self(quota) = self;
        add(&quota.puts, 1, quota.max_puts).ok_or(Reason::QueueFull)?;
        if add(&quota.bytes, bytes, quota.max_bytes).is_none() {
            quota.puts.fetch_sub(1, Ordering::Relaxed);
            return Err(Reason::QueueBytesFull);
        }
        Ok(QuotaPermit { quota, bytes })
    }
}

/// Adds to a counter that is below its limit.
fn add(counter: &AtomicUsize, more: usize, limit: usize) -> Option<usize> {
    let sum = |used| (used < limit).then_some(used + more);
    let (set, read) = (Ordering::Relaxed, Ordering::Relaxed);
    counter.fetch_update(set, read, sum).ok()
}

impl Drop for QuotaPermit<'_> {
    fn drop(&mut self) {
        self.quota.puts.fetch_sub(1, Ordering::Relaxed);
        self.quota.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Quota;
    use crate::sink::group_commit::QueueLimits;

    #[test]
    fn puts_and_bytes_are_limited() {
        let quota = Quota::new(QueueLimits {
            puts: 2,
            bytes: 100,
        });
        let first = quota.try_acquire(99).expect("has room");
        let second = quota.try_acquire(99).expect("is not full yet");
        assert!(quota.try_acquire(1).is_err(), "both are reached");
        drop(first);
        let third = quota.try_acquire(1).expect("has room again");
        drop((second, third));
        let large = quota.try_acquire(100).expect("one is always taken");
        assert!(quota.try_acquire(1).is_err(), "the bytes are reached");
        drop(large);
        assert!(quota.try_acquire(1).is_ok());
    }
}
