//! Whether the last puts of a sink failed, for its health.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::sink::PutError;

/// How many puts have to fail one after the other: one may fail by itself, such as one that met a lock.
const FAILURES: u32 = 3;

/// For how long they count. After a while without puts the next one has to show whether the sink works, since
/// a server that is not ready may get none.
const MEMORY: Duration = Duration::from_secs(10);

/// The puts that have failed since one was stored.
#[derive(Debug, Default)]
pub(crate) struct FailureStreak {
    /// 0 as long as puts are stored: then a put only reads it.
    failures: AtomicU32,
    last: Mutex<Option<(Instant, String)>>,
}

impl FailureStreak {
    /// Records the result of a put. A conflict or a refusal is a sink that works.
    pub(crate) fn record(&self, result: &Result<(), PutError>) {
        match result {
            Ok(()) | Err(PutError::Conflict | PutError::Rejected(_)) => {
                if self.failures.load(Ordering::Relaxed) > 0 {
                    self.failures.store(0, Ordering::Relaxed);
                }
            }
            Err(error) => self.record_failure(&format!("the last puts failed: {error}")),
        }
    }

    pub(crate) fn record_failure(&self, reason: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        // The value is replaced as a whole, so a poisoned lock is still good.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Instant::now(), reason.to_owned()));
    }

    /// The reason of the last failure, if the last puts failed.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.check_at(Instant::now())
    }

    fn check_at(&self, now: Instant) -> Result<(), String> {
        if self.failures.load(Ordering::Relaxed) < FAILURES {
            return Ok(());
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((when, reason)) if now < *when + MEMORY => Err(reason.clone()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{FAILURES, FailureStreak, MEMORY};
    use crate::sink::PutError;

    #[test]
    fn some_failures_in_a_row_count_for_a_while() {
        let streak = FailureStreak::default();
        let failed = Err(PutError::Failed("full".to_owned()));
        for _ in 1..FAILURES {
            streak.record(&failed);
        }
        streak.record(&Err(PutError::Conflict));
        streak.record(&failed);
        assert_eq!(streak.check(), Ok(()));
        for _ in 1..FAILURES {
            streak.record(&failed);
        }
        let reason = streak.check().expect_err("they failed");
        assert!(reason.contains("full"), "{reason}");
        assert_eq!(streak.check_at(Instant::now() + MEMORY), Ok(()));
        streak.record(&Ok(()));
        assert_eq!(streak.check(), Ok(()));
    }
}
