//! Log lines that could come in floods: each is said, and then not again for a while.
//!
//! Never writes one itself, and never leaves out what says something new.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the same is not said again.
const PAUSE: Duration = Duration::from_secs(5);

/// What was said last of one thing.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<Option<Said>>);

#[derive(Debug)]
struct Said {
    what: String,
    when: Instant,
    left_out: u64,
}

impl Seldom {
    /// How often this was left out since it was last said, where it is to be said now.
    pub(crate) fn say(&self, what: &str) -> Option<u64> {
        self.say_at(what, Instant::now())
    }

    fn say_at(&self, what: &str, when: Instant) -> Option<u64> {
        // What one thread leaves behind is whole at any time.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(said) = &mut *last
            && said.what == what
            && when < said.when + PAUSE
        {
            said.left_out += 1;
            return None;
        }
        let said = Said {
            what: what.to_owned(),
            when,
            left_out: 0,
        };
        let before = last.replace(said).filter(|before| before.what == what);
        Some(before.map_or(0, |before| before.left_out))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{PAUSE, Seldom};

    #[test]
    fn the_same_is_said_again_after_a_pause_and_something_new_at_once() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.say_at("a", start), Some(0));
        assert_eq!(seldom.say_at("a", start), None);
        assert_eq!(seldom.say_at("a", start + PAUSE / 2), None);
        assert_eq!(seldom.say_at("a", start + PAUSE), Some(2));
        assert_eq!(seldom.say_at("a", start + PAUSE), None);
        assert_eq!(seldom.say_at("b", start + PAUSE), Some(0));
        assert_eq!(seldom.say_at("a", start + PAUSE), Some(0));
    }
}
