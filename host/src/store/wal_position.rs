//! How far a WAL was written and checkpointed at some moment.

use super::wal_generation::{WalGeneration, generations_between};
use super::wal_size::Frames;

/// How far a WAL was written and checkpointed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct WalPosition {
    pub(super) frames: Frames,
    /// `None` for an empty WAL.
    pub(super) generation: Option<WalGeneration>,
}

impl WalPosition {
    /// Whether a checkpoint wrote to the database between this and `now`.
    pub(super) fn was_checkpointed_until(self, now: Self) -> bool {
        if self.generation == now.generation {
            return self.frames.checkpointed != now.frames.checkpointed;
        }
        // A WAL is restarted only after all of its frames were checkpointed.
        let has_skipped = match (self.generation, now.generation) {
            (None, Some(now)) => now.number > 0,
            (from, to) => match generations_between(from, to) {
                // Between two generations, or at the beginning of one.
                Some(1) => self.frames.written == 0,
                generations => generations.is_some(),
            },
        };
        !self.frames.is_all_checkpointed() || now.frames.checkpointed > 0 || has_skipped
    }
}

#[cfg(test)]
mod tests {
    use super::{WalGeneration, WalPosition};
    use crate::store::wal_size::Frames;

    fn mark(generation: u32, written: u64, checkpointed: u64) -> WalPosition {
        let [a, b, c, d] = generation.to_be_bytes();
        WalPosition {
            frames: Frames {
                written,
                checkpointed,
            },
            generation: Some(WalGeneration {
                number: generation - 7,
                salt: [a, b, c, d, 1, 2, 3, d],
            }),
        }
    }

    #[test]
    fn moves_are_told_from_writes() {
        let written = mark(7, 10, 0);
        assert!(!written.was_checkpointed_until(mark(7, 20, 0)));
        assert!(written.was_checkpointed_until(mark(7, 20, 10)));
        assert!(written.was_checkpointed_until(mark(8, 1, 0)));
        let checkpointed = mark(7, 10, 10);
        assert!(!checkpointed.was_checkpointed_until(mark(8, 1, 0)));
        assert!(checkpointed.was_checkpointed_until(mark(8, 12, 12)));
        assert!(checkpointed.was_checkpointed_until(mark(9, 1, 0)));
        assert!(mark(7, 0, 0).was_checkpointed_until(mark(8, 1, 0)));
        let empty = WalPosition::default();
        assert!(!empty.was_checkpointed_until(mark(7, 1, 0)));
        assert!(empty.was_checkpointed_until(mark(7, 1, 1)));
        assert!(empty.was_checkpointed_until(mark(8, 1, 0)));
    }
}
