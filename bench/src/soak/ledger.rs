//! The puts of the load, and the outcome of each.
//!
//! Key and event of a put are derived from its number, so that only the numbers of puts without a 201 have to
//! be kept.

use std::collections::BTreeMap;

use crate::results::{CONNECTIONS, EVENT_BYTES};

/// The bytes of an event.
const BYTES: usize = EVENT_BYTES[0];

/// The number of digits of a number in its key: enough to sort the keys in the order of the numbers.
const DIGITS: usize = 12;

/// The prefix of all keys of the load: the time of the example keys of the original.
const PREFIX: &str = "20130927T005240";

/// The reason why a put has no 201.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unacknowledged {
    /// The connection broke before the response.
    ConnectionLost,
    /// No response arrived in time.
    NotAnswered,
    /// Another status.
    Other(u16),
}

/// The puts of one connection, each of which ended before the next began.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The number of puts.
    puts: u64,
    /// The puts without a 201, counted from 0.
    unacknowledged: BTreeMap<u64, Unacknowledged>,
}

impl Ledger {
    /// The next put, counted from 0.
    pub(crate) fn next(&self) -> u64 {
        self.puts
    }

    /// Records the outcome of [`Self::next`].
    pub(crate) fn add(&mut self, outcome: Result<(), Unacknowledged>) {
        if let Err(reason) = outcome {
            self.unacknowledged.insert(self.puts, reason);
        }
        self.puts += 1;
    }

    pub(crate) fn has(&self, put: u64) -> bool {
        put < self.puts
    }

    pub(crate) fn is_acknowledged(&self, put: u64) -> bool {
        self.has(put) && !self.unacknowledged.contains_key(&put)
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.puts - self.unacknowledged.len() as u64
    }

    pub(crate) fn unacknowledged(&self) -> impl Iterator<Item = Unacknowledged> {
        self.unacknowledged.values().copied()
    }
}

/// The number of a connection's put, among the puts of all connections.
pub(crate) fn number(connection: usize, put: u64) -> u64 {
    put * CONNECTIONS as u64 + connection as u64
}

/// The connection and its put with this number.
pub(crate) fn of_number(number: u64) -> (usize, u64) {
    let connections = CONNECTIONS as u64;
    ((number % connections) as usize, number / connections)
}

/// The key of a number: 27 characters, like those of the original.
pub(crate) fn key(number: u64) -> String {
    format!("{PREFIX}{number:0DIGITS$}")
}

/// The number of a key.
pub(crate) fn number_of(key: &str) -> Option<u64> {
    let number = key.strip_prefix(PREFIX)?.parse().ok()?;
    (self::key(number) == key).then_some(number)
}

/// The event of a number, which contains it, so that no two are the same.
pub(crate) fn event(number: u64) -> String {
    let start = format!(r#"{{"customer":1,"action":"site visit","number":{number},"note":""#);
    let note = "x".repeat(BYTES.saturating_sub(start.len() + r#""}"#.len()));
    format!(r#"{start}{note}"}}"#)
}

#[cfg(test)]
mod tests {
    use super::{BYTES, Ledger, Unacknowledged, event, key, number, number_of, of_number};
    use crate::results::CONNECTIONS;

    #[test]
    fn key_belongs_to_one_put() {
        for (connection, put) in [(0, 0), (CONNECTIONS - 1, 0), (3, 999_999_999)] {
            let number = number(connection, put);
            assert_eq!(of_number(number), (connection, put));
            assert_eq!(number_of(&key(number)), Some(number));
            assert_eq!(key(number).len(), 27);
            assert_eq!(event(number).len(), BYTES);
        }
        for other in ["key1", "20130927T0052401", "20130927T005240+00000000001"] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }

    #[test]
    fn failed_put_is_kept_by_its_number() {
        let mut ledger = Ledger::default();
        ledger.add(Ok(()));
        ledger.add(Err(Unacknowledged::ConnectionLost));
        assert_eq!((ledger.next(), ledger.acknowledged()), (2, 1));
        let known: Vec<bool> = (0..3).map(|put| ledger.is_acknowledged(put)).collect();
        assert_eq!(known, [true, false, false]);
    }
}
