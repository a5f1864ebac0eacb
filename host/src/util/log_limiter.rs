//! Log lines that could come in floods: each is said, and then not again for a while.
//!
//! Never writes one itself, and never leaves out what says something new.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the same is not said again.
const PAUSE: Duration = Duration::from_secs(5);

/// How many different lines are remembered.
const MAX_SAID: usize = 8;

/// What was said lately of one thing.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<Vec<Said>>);

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
        let mut lately = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(said) = lately.iter_mut().find(|said| said.what == what) else {
            if lately.len() == MAX_SAID {
                lately.remove(0);
            }
            lately.push(Said {
                what: what.to_owned(),
                when,
                left_out: 0,
            });
            return Some(0);
        };
        if when < said.when + PAUSE {
            said.left_out += 1;
            return None;
        }
        said.when = when;
        Some(std::mem::take(&mut said.left_out))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{MAX_SAID, PAUSE, Seldom};

    #[test]
    fn the_same_is_said_again_after_a_pause_and_something_new_at_once() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.say_at("a", start), Some(0));
        assert_eq!(seldom.say_at("a", start), None);
        assert_eq!(seldom.say_at("a", start + PAUSE / 2), None);
        assert_eq!(seldom.say_at("a", start + PAUSE), Some(2));
        assert_eq!(seldom.say_at("a", start + PAUSE), None);
        assert_eq!(seldom.say_at("b", start + PAUSE), Some(0));
        assert_eq!(seldom.say_at("a", start + PAUSE), None);
        assert_eq!(seldom.say_at("a", start + 2 * PAUSE), Some(2));
    }

    #[test]
    fn what_is_always_new_is_not_remembered_for_ever() {
        let seldom = Seldom::default();
        for number in 0..100 {
            assert_eq!(seldom.say(&number.to_string()), Some(0));
        }
        assert_eq!(seldom.0.lock().expect("is whole").len(), MAX_SAID);
    }
}
