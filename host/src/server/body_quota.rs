//! The limits of a body, and the quota of memory for the bodies of all requests.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The size in bytes up to which a body may use all of a [`BodyQuota`]. Large events must not keep ordinary
/// ones, which are far smaller, from being served.
const SMALL_BODY_BYTES: u64 = 64 * 1024;

/// The limits of a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    /// The most bytes of data.
    pub(crate) bytes: u64,
    /// How many bytes more there may be of chunk framing than of data.
    pub(crate) framing_bytes: u64,
    /// The time for all of it, from the end of the header section.
    pub(crate) timeout: Duration,
    /// The least bytes per second, averaged over 5 s.
    pub(crate) min_rate: Option<NonZeroU64>,
}

/// The number of bytes that the bodies of all requests may have in memory.
///
/// Each request changes it, on any processor, so it has a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct BodyQuota {
    max_bytes: u64,
    /// The share of it for bodies that are not small; the rest is reserved for small ones.
    max_large_bytes: u64,
    used: AtomicU64,
}

impl BodyQuota {
    /// A quota of `max_bytes` for bodies of up to `max_body_bytes`. A quarter is reserved for small bodies,
    /// or less if the largest body needs more than the rest.
    pub(crate) fn new(max_bytes: u64, max_body_bytes: u64) -> Self {
        Self {
            max_bytes,
            max_large_bytes: max_body_bytes.max(max_bytes - max_bytes / 4),
            used: AtomicU64::new(0),
        }
    }

    /// Reserves `bytes` more for a body that has `total` bytes then. Bytes that are refused are not counted
    /// even for a moment: that could refuse a small body for which there is room.
    pub(crate) fn try_reserve(&self, bytes: u64, total: u64) -> bool {
        let max = if total <= SMALL_BODY_BYTES {
            self.max_bytes
        } else {
            self.max_large_bytes
        };
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= max);
        let (set, read) = (Ordering::Relaxed, Ordering::Relaxed);
        self.used.fetch_update(set, read, more).is_ok()
    }

    /// How many bytes are reserved.
    #[cfg(feature = "admin")]
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}
