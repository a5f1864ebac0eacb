//! Why sinks were unavailable, on the way from where that is known to the server's log.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::sink::reason::{REASONS, Reason};

/// Why a sink was unavailable, from where that is known to where its server answers.
///
/// [`PutError`](crate::sink::PutError) does not say it. A sink notes one reason for each put that it returns as unavailable,
/// and the server takes one for each that it gets. Where several are returned at the same moment, they
/// may be told each other's reason, but as many of each are told as were noted.
#[derive(Debug, Default)]
pub(crate) struct UnavailableReasons {
    counts: [AtomicU64; REASONS.len()],
    /// Whether the sink has ended without acknowledged events.
    has_lost: AtomicBool,
}

impl UnavailableReasons {
    pub(crate) fn note(&self, reason: Reason) {
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_loss(&self) {
        self.has_lost.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_lost(&self) -> bool {
        self.has_lost.load(Ordering::Relaxed)
    }

    pub(crate) fn take(&self) -> Option<Reason> {
        let one_less = |noted: u64| noted.checked_sub(1);
        let (set, read) = (Ordering::Relaxed, Ordering::Relaxed);
        let mut reasons = REASONS.iter().map(|described| described.reason);
        reasons.find(|reason| {
            let noted = &self.counts[*reason as usize];
            noted.fetch_update(set, read, one_less).is_ok()
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
        assert_eq!(reasons.take(), None);
        for reason in [Reason::MemoryFull, Reason::QueueFull, Reason::MemoryFull] {
            reasons.note(reason);
        }
        let taken = [(); 4].map(|()| reasons.take());
        let memory = Some(Reason::MemoryFull);
        assert_eq!(taken, [Some(Reason::QueueFull), memory, memory, None]);
    }
}
