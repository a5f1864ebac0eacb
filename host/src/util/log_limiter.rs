//! A limit on how often the same log line is written.
//!
//! The first occurrence of a line is logged, and then one after each pause, with the number of those
//! suppressed.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the same line is suppressed.
const PAUSE: Duration = Duration::from_secs(5);

/// How many different lines are remembered; the oldest is forgotten first.
const MAX_LINES: usize = 8;

/// The lines on one subject that were logged recently.
#[derive(Debug, Default)]
pub(crate) struct LogLimiter(Mutex<Vec<Logged>>);

#[derive(Debug)]
struct Logged {
    line: String,
    when: Instant,
    suppressed: u64,
}

impl LogLimiter {
    /// Whether `line` is to be logged now: then the number of times that it was suppressed since the
    /// last time, else `None`.
    pub(crate) fn check(&self, line: &str) -> Option<u64> {
        self.check_at(line, Instant::now())
    }

    fn check_at(&self, line: &str, when: Instant) -> Option<u64> {
        // Each change leaves the list consistent, so a poisoned lock is still good.
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(logged) = recent.iter_mut().find(|logged| logged.line == line) else {
            if recent.len() == MAX_LINES {
                recent.remove(0);
            }
            recent.push(Logged {
                line: line.to_owned(),
                when,
                suppressed: 0,
            });
            return Some(0);
        };
        if when < logged.when + PAUSE {
            logged.suppressed += 1;
            return None;
        }
        logged.when = when;
        Some(std::mem::take(&mut logged.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{LogLimiter, MAX_LINES, PAUSE};

    #[test]
    fn repeated_line_passes_after_pause_and_new_line_at_once() {
        let (limiter, start) = (LogLimiter::default(), Instant::now());
        assert_eq!(limiter.check_at("a", start), Some(0));
        assert_eq!(limiter.check_at("a", start), None);
        assert_eq!(limiter.check_at("a", start + PAUSE / 2), None);
        assert_eq!(limiter.check_at("a", start + PAUSE), Some(2));
        assert_eq!(limiter.check_at("a", start + PAUSE), None);
        assert_eq!(limiter.check_at("b", start + PAUSE), Some(0));
        assert_eq!(limiter.check_at("a", start + PAUSE), None);
        assert_eq!(limiter.check_at("a", start + 2 * PAUSE), Some(2));
    }

    #[test]
    fn number_of_remembered_lines_is_bounded() {
        let limiter = LogLimiter::default();
        for number in 0..100 {
            assert_eq!(limiter.check(&number.to_string()), Some(0));
        }
        assert_eq!(limiter.0.lock().expect("is whole").len(), MAX_LINES);
    }
}
