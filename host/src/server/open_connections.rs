//! The connections that are open, and which of them is closed for a new one.
//!
//! Asks a connection to end, and leaves that to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::server::connection_state::Activity;

/// How long to wait until a connection that was asked to end has ended, or until one that is busy may
/// have become idle, before all are looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long a connection has been idle at least when it is closed for another: in less the first or the
/// next request of a client may be on its way. Many times as long as that takes in one network, and so
/// short that a crowd of silent clients that keeps all places is through in seconds.
const MIN_IDLE_TIME: Duration = Duration::from_millis(100);

/// How many connections a look at all of them finds that have been idle the longest: so many new ones
/// need no further look.
const CANDIDATES: usize = 256;

/// The connections that are open.
#[derive(Debug, Default)]
pub(crate) struct OpenConnections {
    next_id: u64,
    open: HashMap<u64, Arc<Activity>>,
    /// Those that had been idle the longest when all were looked at, the longest last.
    candidates: Vec<Candidate>,
    /// How often connections were about to linger by then.
    last_answers: Option<usize>,
    /// Those that were asked to end, and have neither ended nor declined.
    asked: Vec<u64>,
}

/// A connection that was idle since then. In the order in which they became so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    since_ms: u64,
    id: u64,
}

impl OpenConnections {
    /// Takes note of a connection until it is removed.
    pub(crate) fn add(&mut self, activity: &Arc<Activity>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.open.insert(id, Arc::clone(activity));
        id
    }

    pub(crate) fn remove(&mut self, id: u64) {
        self.open.remove(&id);
    }

    /// Asks the connection to end that has been idle the longest, if it has been so for long enough, and
    /// unless as many as are `wanted` are about to. Returns when to do so again.
    pub(crate) fn end_longest_idle(&mut self, wanted: usize, now_ms: u64) -> Duration {
        let open = &self.open;
        let is_asked = |id: &u64| open.get(id).is_some_and(|it| it.is_asked_to_end());
        self.asked.retain(is_asked);
        if self.asked.len() >= wanted {
            return LOOK_AGAIN;
        }
        // Those that linger since come first.
        let last_answers = self.open.values().next().map(|it| it.last_answers());
        let is_known = self.last_answers == last_answers;
        if is_known && self.end_a_candidate(now_ms) {
            return LOOK_AGAIN;
        }
        self.last_answers = last_answers;
        self.find_candidates();
        if self.end_a_candidate(now_ms) {
            return LOOK_AGAIN;
        }
        let next = self.candidates.last();
        let rest = next.map(|next| MIN_IDLE_TIME.saturating_sub(next.idle_time(now_ms)));
        rest.map_or(LOOK_AGAIN, |rest| rest.min(LOOK_AGAIN))
    }

    fn end_a_candidate(&mut self, now_ms: u64) -> bool {
        while let Some(candidate) = self.candidates.last() {
            if let Some(activity) = self.open.get(&candidate.id)
                && activity.idle_since_ms() == Some(candidate.since_ms)
            {
                if candidate.idle_time(now_ms) < MIN_IDLE_TIME && !activity.has_last_answer() {
                    return false;
                }
                activity.ask_to_end();
                self.asked.push(candidate.id);
                self.candidates.pop();
                return true;
            }
            self.candidates.pop();
        }
        false
    }

    fn find_candidates(&mut self) {
        let open = self.open.iter();
        let idle = open.filter_map(|(id, activity)| {
            let since_ms = activity.idle_since_ms()?;
            Some(Candidate { since_ms, id: *id })
        });
        self.candidates.clear();
        self.candidates.extend(idle);
        if self.candidates.len() > CANDIDATES {
            self.candidates.select_nth_unstable(CANDIDATES);
            self.candidates.truncate(CANDIDATES);
        }
        self.candidates
            .sort_unstable_by(|left, right| right.cmp(left));
    }
}

impl Candidate {
    fn idle_time(self, now_ms: u64) -> Duration {
        Duration::from_millis(now_ms.saturating_sub(self.since_ms))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Waker};
    use std::time::Duration;

    use super::{CANDIDATES, LOOK_AGAIN, OpenConnections};
    use crate::server::connection_state::{Activity, OpenAnswer};

    /// Connections that became idle at these times.
    fn idle_since(
        times_ms: impl IntoIterator<Item = u64>,
    ) -> (OpenConnections, Vec<Arc<Activity>>) {
        let (mut open, mut activities) = (OpenConnections::default(), Vec::new());
        for since_ms in times_ms {
            let activity = Arc::new(Activity::default());
            activity.set_idle_since_ms(since_ms);
            open.add(&activity);
            activities.push(activity);
        }
        (open, activities)
    }

    /// Those that are asked to end now. From then on they are in service.
    fn asked(activities: &[Arc<Activity>]) -> Vec<usize> {
        let context = Context::from_waker(Waker::noop());
        let asked = activities.iter().enumerate().filter(|(_, activity)| {
            let is_asked = activity.is_asked_to_end();
            if is_asked {
                activity.decline_end(&context);
                activity.begin_request();
            }
            is_asked
        });
        asked.map(|(number, _)| number).collect()
    }

    #[test]
    fn connections_end_in_the_order_in_which_they_became_idle() {
        let max = 3 * CANDIDATES;
        let since_ms = |number| (number * 7 % max) as u64;
        let (mut open, activities) = idle_since((0..max).map(since_ms));
        // It is in service.
        activities[0].begin_request();
        let now_ms = 1_000_000;
        for expected in 1..max as u64 {
            open.end_longest_idle(1, now_ms);
            let asked: Vec<u64> = asked(&activities).into_iter().map(since_ms).collect();
            assert_eq!(asked, [expected]);
        }
        open.end_longest_idle(1, now_ms);
        assert!(asked(&activities).is_empty());
    }

    #[test]
    fn connection_that_was_in_service_just_now_is_not_ended() {
        let (mut open, activities) = idle_since([2000, 1000, 3000]);
        assert_eq!(open.end_longest_idle(1, 1000), LOOK_AGAIN);
        assert_eq!(open.end_longest_idle(1, 1099), Duration::from_millis(1));
        assert!(asked(&activities).is_empty());
        open.end_longest_idle(1, 1100);
        assert_eq!(asked(&activities), [1]);
        assert_eq!(open.end_longest_idle(1, 2060), Duration::from_millis(40));
        assert!(asked(&activities).is_empty());
        // Its client has its answer.
        activities[2].begin_lingering();
        open.end_longest_idle(1, 2060);
        assert_eq!(asked(&activities), [2]);
    }

    #[test]
    fn connection_that_is_answered_slowly_is_not_ended() {
        let (mut open, activities) = idle_since([0, 0]);
        activities[0].set_write_blocked(true);
        let answer = OpenAnswer::new(&activities[1]);
        let now_ms = u64::MAX;
        open.end_longest_idle(1, now_ms);
        assert!(asked(&activities).is_empty());
        drop(answer);
        open.end_longest_idle(1, now_ms);
        assert_eq!(asked(&activities), [1]);
        activities[0].set_write_blocked(false);
        open.end_longest_idle(1, now_ms);
        assert_eq!(asked(&activities), [0]);
    }

    #[test]
    fn connection_that_has_ended_is_asked_nothing() {
        let (mut open, activities) = idle_since([1, 2, 3]);
        open.end_longest_idle(1, 1000);
        open.remove(0);
        open.remove(1);
        open.end_longest_idle(1, 1000);
        assert_eq!(asked(&activities), [0, 2]);
    }

    #[test]
    fn connection_that_lingers_since_the_last_look_is_the_next() {
        let first = Arc::new(Activity::default());
        let activities = [first.apart(), first.apart(), first.apart()].map(Arc::new);
        let mut open = OpenConnections::default();
        for (since_ms, activity) in (1..).zip(&activities) {
            activity.set_idle_since_ms(since_ms);
            open.add(activity);
        }
        open.end_longest_idle(1, 1000);
        assert_eq!(asked(&activities), [0]);
        activities[2].linger();
        open.end_longest_idle(1, 1000);
        assert_eq!(asked(&activities), [2]);
    }

    /// On a busy machine it takes a while to end.
    #[test]
    fn no_more_connections_are_asked_than_are_wanted() {
        let (mut open, activities) = idle_since([1, 2, 3, 4]);
        for _ in 0..10 {
            open.end_longest_idle(1, 1000);
        }
        assert!(activities[0].is_asked_to_end());
        assert!(!activities[1].is_asked_to_end());
        for _ in 0..10 {
            open.end_longest_idle(2, 1000);
        }
        assert_eq!(asked(&activities), [0, 1]);
        // They have declined.
        open.end_longest_idle(1, 1000);
        assert_eq!(asked(&activities), [2]);
    }
}
