//! The open connections of a server, and the choice of the one that is closed for a new one.
//!
//! The connection is asked to close, and closes itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::server::connection_state::ConnectionState;

/// How long to wait for a connection that was asked to close, or for one to become idle, before all are
/// checked again.
const RECHECK_INTERVAL: Duration = Duration::from_millis(50);

/// How long a connection has to be idle before it is closed for another: the first or the next request of
/// its client may be on its way. The time is many times the duration of a request within one network, and
/// short enough for thousands of silent clients to be closed in seconds.
const MIN_IDLE_TIME: Duration = Duration::from_millis(100);

/// How many of the connections that are idle longest one check of all connections finds: so many new
/// connections need no further check.
const CANDIDATES: usize = 256;

/// The open connections of a server.
#[derive(Debug, Default)]
pub(crate) struct OpenConnections {
    next_id: u64,
    open: HashMap<u64, Arc<ConnectionState>>,
    /// Those that were idle longest at the last check, the longest last.
    candidates: Vec<Candidate>,
    /// The count of last responses at that check.
    last_responses: Option<usize>,
    /// Those that were asked to close, and have neither closed nor declined.
    asked: Vec<u64>,
}

/// An idle connection. Candidates are ordered by the time since which they are idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    since_ms: u64,
    id: u64,
}

impl OpenConnections {
    /// Adds a connection.
    pub(crate) fn add(&mut self, state: &Arc<ConnectionState>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.open.insert(id, Arc::clone(state));
        id
    }

    pub(crate) fn remove(&mut self, id: u64) {
        self.open.remove(&id);
    }

    /// Asks the connection that is idle longest to close, if it is idle for long enough and fewer than `wanted`
    /// connections are asked already. Returns after which time to do so again.
    pub(crate) fn close_longest_idle(&mut self, wanted: usize, now_ms: u64) -> Duration {
        let open = &self.open;
        let is_asked = |id: &u64| open.get(id).is_some_and(|it| it.is_asked_to_close());
        self.asked.retain(is_asked);
        if self.asked.len() >= wanted {
            return RECHECK_INTERVAL;
        }
        // Connections that have begun to linger since the last check come first.
        let last_responses = self.open.values().next().map(|it| it.last_responses());
        let is_known = self.last_responses == last_responses;
        if is_known && self.close_a_candidate(now_ms) {
            return RECHECK_INTERVAL;
        }
        self.last_responses = last_responses;
        self.find_candidates();
        if self.close_a_candidate(now_ms) {
            return RECHECK_INTERVAL;
        }
        let next = self.candidates.last();
        let rest = next.map(|next| MIN_IDLE_TIME.saturating_sub(next.idle_time(now_ms)));
        rest.map_or(RECHECK_INTERVAL, |rest| rest.min(RECHECK_INTERVAL))
    }

    fn close_a_candidate(&mut self, now_ms: u64) -> bool {
        while let Some(candidate) = self.candidates.last() {
            if let Some(state) = self.open.get(&candidate.id)
                && state.idle_since_ms() == Some(candidate.since_ms)
            {
                if candidate.idle_time(now_ms) < MIN_IDLE_TIME && !state.has_last_response() {
                    return false;
                }
                state.ask_to_close();
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
        let idle = open.filter_map(|(id, state)| {
            let since_ms = state.idle_since_ms()?;
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

    use super::{CANDIDATES, OpenConnections, RECHECK_INTERVAL};
    use tokio_util::task::TaskTracker;

    use crate::server::connection_state::{ConnectionState, OpenResponse};

    /// Connections that became idle at these times.
    fn idle_since(
        times_ms: impl IntoIterator<Item = u64>,
    ) -> (OpenConnections, Vec<Arc<ConnectionState>>) {
        let (mut open, mut states) = (OpenConnections::default(), Vec::new());
        for since_ms in times_ms {
            let state = Arc::new(ConnectionState::default());
            state.set_idle_since_ms(since_ms);
            open.add(&state);
            states.push(state);
        }
        (open, states)
    }

    /// Those that are asked to close now. From then on they have a request in service.
    fn asked(states: &[Arc<ConnectionState>]) -> Vec<usize> {
        let context = Context::from_waker(Waker::noop());
        let asked = states.iter().enumerate().filter(|(_, state)| {
            let is_asked = state.is_asked_to_close();
            if is_asked {
                state.decline_close(&context);
                state.begin_request();
            }
            is_asked
        });
        asked.map(|(number, _)| number).collect()
    }

    #[test]
    fn connections_are_closed_in_order_of_idleness() {
        let max = 3 * CANDIDATES;
        let since_ms = |number| (number * 7 % max) as u64;
        let (mut open, states) = idle_since((0..max).map(since_ms));
        // It has a request in service.
        states[0].begin_request();
        let now_ms = 1_000_000;
        for expected in 1..max as u64 {
            open.close_longest_idle(1, now_ms);
            let asked: Vec<u64> = asked(&states).into_iter().map(since_ms).collect();
            assert_eq!(asked, [expected]);
        }
        open.close_longest_idle(1, now_ms);
        assert!(asked(&states).is_empty());
    }

    #[test]
    fn recently_served_connection_is_not_closed() {
        let (mut open, states) = idle_since([2000, 1000, 3000]);
        assert_eq!(open.close_longest_idle(1, 1000), RECHECK_INTERVAL);
        assert_eq!(open.close_longest_idle(1, 1099), Duration::from_millis(1));
        assert!(asked(&states).is_empty());
        open.close_longest_idle(1, 1100);
        assert_eq!(asked(&states), [1]);
        assert_eq!(open.close_longest_idle(1, 2060), Duration::from_millis(40));
        assert!(asked(&states).is_empty());
        // Its client has the response.
        states[2].begin_lingering();
        open.close_longest_idle(1, 2060);
        assert_eq!(asked(&states), [2]);
    }

    #[test]
    fn connection_with_slow_response_is_not_closed() {
        let (mut open, states) = idle_since([0, 0]);
        states[0].set_write_blocked(true);
        let response = OpenResponse::new(&states[1]);
        let now_ms = u64::MAX;
        open.close_longest_idle(1, now_ms);
        assert!(asked(&states).is_empty());
        drop(response);
        open.close_longest_idle(1, now_ms);
        assert_eq!(asked(&states), [1]);
        states[0].set_write_blocked(false);
        open.close_longest_idle(1, now_ms);
        assert_eq!(asked(&states), [0]);
    }

    #[test]
    fn closed_connection_is_not_asked() {
        let (mut open, states) = idle_since([1, 2, 3]);
        open.close_longest_idle(1, 1000);
        open.remove(0);
        open.remove(1);
        open.close_longest_idle(1, 1000);
        assert_eq!(asked(&states), [0, 2]);
    }

    #[test]
    fn connection_that_began_to_linger_is_next() {
        let (tasks, last_responses) = (TaskTracker::new(), Arc::default());
        let states = [(); 3].map(|()| {
            let state = ConnectionState::new(tasks.clone(), Arc::clone(&last_responses));
            Arc::new(state)
        });
        let mut open = OpenConnections::default();
        for (since_ms, state) in (1..).zip(&states) {
            state.set_idle_since_ms(since_ms);
            open.add(state);
        }
        open.close_longest_idle(1, 1000);
        assert_eq!(asked(&states), [0]);
        states[2].linger();
        open.close_longest_idle(1, 1000);
        assert_eq!(asked(&states), [2]);
    }

    #[test]
    fn only_wanted_number_of_connections_is_asked() {
        let (mut open, states) = idle_since([1, 2, 3, 4]);
        for _ in 0..10 {
            open.close_longest_idle(1, 1000);
        }
        assert!(states[0].is_asked_to_close());
        assert!(!states[1].is_asked_to_close());
        for _ in 0..10 {
            open.close_longest_idle(2, 1000);
        }
        assert_eq!(asked(&states), [0, 1]);
        // They have declined.
        open.close_longest_idle(1, 1000);
        assert_eq!(asked(&states), [2]);
    }
}
