//! A limit on how often the same log line is written.
//!
//! The first line of a kind passes, and then one after each pause, with the number that was suppressed.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the same line is suppressed.
const PAUSE: Duration = Duration::from_secs(5);

/// How many different lines are remembered; the oldest is forgotten first.
const MAX_LINES: usize = 8;

/// The lines of one subject that were logged lately.
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
        // Each change leaves the list whole, so a poisoned lock is still good.
        let mut lately = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(logged) = lately.iter_mut().find(|logged| logged.line == line) else {
            if lately.len() == MAX_LINES {
                lately.remove(0);
            }
            lately.push(Logged {
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
    fn same_line_passes_after_a_pause_and_a_new_one_at_once() {
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
