//! Compares the event that a store holds with the event of a put.

use alldata_peer_protocol::same_event::same_event;

/// The size of an event in bytes up to which values are compared. Larger ones are compared by bytes only:
/// comparing values takes several times the size of both in memory, and a component has little.
pub const MAX_COMPARED_BYTES: usize = 1024 * 1024;

/// How many times as long as the event of the put the stored one may be to be compared by its value. The spelling
/// of two clients differs by less, and without a limit a small put could cost as much as the largest event.
const MAX_LENGTH_RATIO: usize = 8;

/// How many bytes longer it may be beyond that: a short event may have much white space in it.
const MAX_EXTRA_BYTES: usize = 4 * 1024;

/// The most bytes of a stored event that can be the same as `event`. A longer one need not be read to its
/// end.
#[must_use]
pub fn max_bytes(event: &str) -> usize {
    let compared = event.len().saturating_mul(MAX_LENGTH_RATIO);
    let compared = compared.saturating_add(MAX_EXTRA_BYTES);
    event.len().max(compared.min(MAX_COMPARED_BYTES))
}

/// Whether the stored bytes are the event of the put. Bytes that are not JSON, damaged in the store, are
/// not.
#[must_use]
pub fn is_same(stored: &[u8], event: &str) -> bool {
    if stored == event.as_bytes() {
        return true;
    }
    let is_small = event.len() <= MAX_COMPARED_BYTES && stored.len() <= max_bytes(event);
    let is_same = |stored: &str| same_event(stored, event);
    is_small && core::str::from_utf8(stored).is_ok_and(is_same)
}

#[cfg(test)]
mod tests {
    use super::{is_same, max_bytes};

    #[test]
    fn damaged_bytes_are_no_event() {
        let event = "{\"a\":[1,\"\\ud800\",1e400]}";
        assert!(is_same(event.as_bytes(), event));
        assert!(is_same(b"{ \"a\": [1.0, \"\\ud800\", 1e400] }", event));
        for damaged in [
            "",
            "{\"a\":[1,\"\\ud800\",1e400]}}",
            "{\"a\":[1,\"\\ud800\",1e400]} junk",
            "{\"a\":[1 \"\\ud800\",1e400]}",
            "{\"a\",[1,\"\\ud800\",1e400]}",
            "{\"a\":[1,\"\\ud800\",1e400}]",
            "{\"a\":[1,\"\\ud800\",1e400]}\0",
        ] {
            assert!(!is_same(damaged.as_bytes(), event), "{damaged}");
        }
        assert!(!is_same(&[event.as_bytes(), b"\xff"].concat(), event));
    }

    #[test]
    fn large_events_are_compared_by_bytes() {
        for (bytes, is_the_same) in [(1024 * 1024, true), (1024 * 1024 + 1, false)] {
            let event = format!("\"{}\"", "x".repeat(bytes - 3));
            assert!(is_same(event.as_bytes(), &event));
            assert_eq!(is_same(format!("{event} ").as_bytes(), &event), is_the_same);
        }
    }

    #[test]
    fn held_event_much_longer_than_sent_one_is_not_compared() {
        let stored = |bytes: usize| format!("[1{}]", " ".repeat(bytes - 3));
        let most = max_bytes("[1]");
        assert_eq!(most, 8 * 3 + 4096);
        assert!(is_same(stored(most).as_bytes(), "[1]"));
        assert!(!is_same(stored(most + 1).as_bytes(), "[1]"));
        // What is sent may be longer than what is stored.
        assert!(is_same(b"[1]", &stored(most + 1)));
        let large = stored(2 * 1024 * 1024);
        assert_eq!(max_bytes(&large), large.len());
    }

    #[test]
    fn nesting_has_no_bound() {
        let deep = ["[".repeat(9_000), "]".repeat(9_000)].concat();
        assert!(is_same([" ", &*deep].concat().as_bytes(), &deep));
    }
}
