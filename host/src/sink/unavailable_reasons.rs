//! Carries the reasons for unavailable puts from the sink to the log of the server.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::sink::reason::{REASONS, Reason};

/// The reasons why puts were unavailable.
///
/// [`PutError`](crate::sink::PutError) does not contain them. A sink records one reason for each put that
/// it returns as unavailable, and the server takes one for each that it receives. Puts that return at the
/// same time may get each other's reason, but the total of each reason is correct.
#[derive(Debug, Default)]
pub(crate) struct UnavailableReasons {
    counts: [AtomicU64; REASONS.len()],
    /// Whether the sink has ended without acknowledged events.
    has_lost: AtomicBool,
}

impl UnavailableReasons {
    pub(crate) fn record(&self, reason: Reason) {
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn record_loss(&self) {
        self.has_lost.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_lost(&self) -> bool {
        self.has_lost.load(Ordering::Relaxed)
    }

    pub(crate) fn take_one(&self) -> Option<Reason> {
        let one_less = |recorded: u64| recorded.checked_sub(1);
        let (set, read) = (Ordering::Relaxed, Ordering::Relaxed);
        let mut reasons = REASONS.iter().map(|described| described.reason);
        reasons.find(|reason| {
            let recorded = &self.counts[*reason as usize];
            recorded.fetch_update(set, read, one_less).is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::UnavailableReasons;
    use crate::sink::reason::Reason;

    #[test]
    fn each_noted_reason_is_taken_once() {
        let reasons = UnavailableReasons::default();
        assert_eq!(reasons.take_one(), None);
        for reason in [Reason::MemoryFull, Reason::QueueFull, Reason::MemoryFull] {
            reasons.record(reason);
        }
        let taken = [(); 4].map(|()| reasons.take_one());
        let memory = Some(Reason::MemoryFull);
        assert_eq!(taken, [Some(Reason::QueueFull), memory, memory, None]);
    }
}
