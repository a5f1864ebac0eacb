//! What a WAL had at some moment, and what has become of it since.
//!
//! Never reads a file.

use super::identity::Round;
use super::wal_size::Frames;

/// How often a WAL may have been begun anew between two looks at it: hours of a fast load, of a process that
/// was stopped. What a foreign WAL has in the place is random, and seldom that close.
const MAX_ROUNDS: u32 = 1 << 20;

/// What a WAL had when its database was as it is remembered.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct WalMark {
    pub(super) frames: Frames,
    /// `None` of a WAL that is empty.
    pub(super) round: Option<Round>,
}

impl WalMark {
    /// Whether pages have gone to the database between this and `now`.
    pub(super) fn has_moved_until(self, now: Self) -> bool {
        if self.round == now.round {
            return self.frames.moved != now.frames.moved;
        }
        // A WAL is begun anew only once there was something in it, and all of that has been moved.
        let has_skipped = match (self.round, now.round) {
            (None, Some(now)) => now.number > 0,
            (from, to) => match rounds_between(from, to) {
                // Between two rounds, or at the beginning of one.
                Some(1) => self.frames.written == 0,
                rounds => rounds.is_some(),
            },
        };
        !self.frames.is_all_moved() || now.frames.moved > 0 || has_skipped
    }
}

/// How often a WAL was begun anew from one round to another; `None` where the other does not follow,
/// or not as far as can be told.
pub(super) fn rounds_between(from: Option<Round>, to: Option<Round>) -> Option<u32> {
    let count = |Round {
                     salt: [a, b, c, d, ..],
                     ..
                 }| u32::from_be_bytes([a, b, c, d]);
    let rounds = count(to?).wrapping_sub(count(from?));
    (1..=MAX_ROUNDS).contains(&rounds).then_some(rounds)
}

#[cfg(test)]
mod tests {
    use super::{Round, WalMark, rounds_between};
    use crate::store::wal_size::Frames;

    fn mark(round: u32, written: u64, moved: u64) -> WalMark {
        let [a, b, c, d] = round.to_be_bytes();
        WalMark {
            frames: Frames { written, moved },
            round: Some(Round {
                number: round - 7,
                salt: [a, b, c, d, 1, 2, 3, d],
            }),
        }
    }

    #[test]
    fn moves_are_told_from_writes() {
        let written = mark(7, 10, 0);
        assert!(!written.has_moved_until(mark(7, 20, 0)));
        assert!(written.has_moved_until(mark(7, 20, 10)));
        assert!(written.has_moved_until(mark(8, 1, 0)));
        let moved = mark(7, 10, 10);
        assert!(!moved.has_moved_until(mark(8, 1, 0)));
        assert!(moved.has_moved_until(mark(8, 12, 12)));
        assert!(moved.has_moved_until(mark(9, 1, 0)));
        assert!(mark(7, 0, 0).has_moved_until(mark(8, 1, 0)));
        let empty = WalMark::default();
        assert!(!empty.has_moved_until(mark(7, 1, 0)));
        assert!(empty.has_moved_until(mark(7, 1, 1)));
        assert!(empty.has_moved_until(mark(8, 1, 0)));
    }

    #[test]
    fn rounds_are_counted_forwards_only() {
        let round = |count| mark(count, 0, 0).round;
        assert_eq!(rounds_between(round(7), round(7)), None);
        assert_eq!(rounds_between(round(7), round(9)), Some(2));
        assert_eq!(rounds_between(round(9), round(7)), None);
        assert_eq!(rounds_between(round(7), round(1 << 30)), None);
        assert_eq!(rounds_between(None, round(7)), None);
    }
}
