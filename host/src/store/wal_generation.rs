//! The generation of a WAL: SQLite restarts it, with another salt, once all of it was checkpointed.

use std::fs::File;

use super::file_id::read_at;
use super::wal_size::WAL_HEADER_BYTES;

/// The most restarts of a WAL between two checks: hours of a fast load beside a stopped process. The salt of
/// a WAL of another store is random, and rarely that close.
const MAX_GENERATIONS: u32 = 1 << 20;

/// What SQLite changes in the header of a WAL whenever it restarts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WalGeneration {
    /// The number of restarts that its writer knows of: 0 in a new WAL.
    pub(super) number: u32,
    /// Also in the header of each frame. SQLite increments the first half; the second is random.
    pub(super) salt: [u8; 8],
}

/// Reads the generation from the header of a WAL.
pub(super) fn generation_of(wal: &File) -> Option<WalGeneration> {
    let mut header = [0; WAL_HEADER_BYTES];
    read_at(wal, &mut header, 0).ok()?;
    let (mut number, mut salt) = ([0; 4], [0; 8]);
    number.copy_from_slice(&header[12..16]);
    salt.copy_from_slice(&header[16..24]);
    Some(WalGeneration {
        number: u32::from_be_bytes(number),
        salt,
    })
}

/// The number of restarts from one generation to another; `None` if the other does not follow it within
/// [`MAX_GENERATIONS`].
pub(super) fn generations_between(
    from: Option<WalGeneration>,
    to: Option<WalGeneration>,
) -> Option<u32> {
    let count = |WalGeneration {
                     salt: [a, b, c, d, ..],
                     ..
                 }| u32::from_be_bytes([a, b, c, d]);
    let generations = count(to?).wrapping_sub(count(from?));
    (1..=MAX_GENERATIONS)
        .contains(&generations)
        .then_some(generations)
}

#[cfg(test)]
mod tests {
    use super::{WalGeneration, generations_between};

    #[test]
    fn generations_are_counted_forwards_only() {
        let generation = |count: u32| {
            let [a, b, c, d] = count.to_be_bytes();
            let salt = [a, b, c, d, 1, 2, 3, d];
            Some(WalGeneration { number: 0, salt })
        };
        assert_eq!(generations_between(generation(7), generation(7)), None);
        assert_eq!(generations_between(generation(7), generation(9)), Some(2));
        assert_eq!(generations_between(generation(9), generation(7)), None);
        assert_eq!(
            generations_between(generation(7), generation(1 << 30)),
            None
        );
        assert_eq!(generations_between(None, generation(7)), None);
    }
}
