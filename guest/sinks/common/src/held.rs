//! What a store holds under a key, compared with what is put.
//!
//! Never reads a store.

use alldata_peer_guest::same_event::same_event;

/// Whether what is held is the event that is put. What is no text is no event.
#[must_use]
pub fn is_same(held: &[u8], event: &str) -> bool {
    core::str::from_utf8(held).is_ok_and(|held| same_event(held, event))
}
