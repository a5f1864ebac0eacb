//! What a store holds under a key, compared with what is put.
//!
//! Never reads a store.

use alldata_peer_guest::same_event::same_event;

/// The size of an event in bytes up to which values are compared, and beyond which only bytes are:
/// comparing takes some times the size of both in memory, and a component has little.
pub const MAX_COMPARED_BYTES: usize = 1024 * 1024;

/// Whether what is held is the event that is put. What is damaged in the store, so that it is no
/// text or no JSON any more, is no event.
#[must_use]
pub fn is_same(held: &[u8], event: &str) -> bool {
    if held == event.as_bytes() {
        return true;
    }
    let is_small = held.len().max(event.len()) <= MAX_COMPARED_BYTES;
    let is_same = |held: &str| same_event(held, event);
    is_small && core::str::from_utf8(held).is_ok_and(is_same)
}

#[cfg(test)]
mod tests {
    use super::is_same;

    #[test]
    fn what_is_damaged_is_no_event() {
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
    fn of_large_events_only_bytes_count() {
        for (bytes, is_the_same) in [(1024 * 1024, true), (1024 * 1024 + 1, false)] {
            let event = format!("\"{}\"", "x".repeat(bytes - 3));
            assert!(is_same(event.as_bytes(), &event));
            assert_eq!(is_same(format!("{event} ").as_bytes(), &event), is_the_same);
        }
    }

    #[test]
    fn no_nesting_is_too_deep() {
        let deep = ["[".repeat(9_000), "]".repeat(9_000)].concat();
        assert!(is_same([" ", &*deep].concat().as_bytes(), &deep));
    }
}
