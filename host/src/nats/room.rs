//! The room for puts that wait for the stream: how many, and how many bytes.
//!
//! Never makes one wait for room.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sink::group_commit::QueueLimits;
use crate::sink::reason::Reason;

/// The room, and what is taken of it.
#[derive(Debug)]
pub(super) struct Room {
    limits: QueueLimits,
    puts: AtomicUsize,
    bytes: AtomicUsize,
}

/// What one put has of a [`Room`], which gets that back when this is dropped.
pub(super) struct Place<'a> {
    room: &'a Room,
    bytes: usize,
}

impl Room {
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            puts: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        }
    }

    /// A place for a put of so many bytes, if fewer puts and bytes wait than may.
    pub(super) fn take(&self, bytes: usize) -> Result<Place<'_>, Reason> {
        add(&self.puts, 1, self.limits.puts.max(1)).ok_or(Reason::QueueFull)?;
        if add(&self.bytes, bytes, self.limits.bytes).is_none() {
            self.puts.fetch_sub(1, Ordering::Relaxed);
            return Err(Reason::QueueBytesFull);
        }
        Ok(Place { room: self, bytes })
    }
}

/// Adds to what is below its limit.
fn add(taken: &AtomicUsize, more: usize, limit: usize) -> Option<usize> {
    let sum = |taken| (taken < limit).then_some(taken + more);
    let (set, read) = (Ordering::Relaxed, Ordering::Relaxed);
    taken.fetch_update(set, read, sum).ok()
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.room.puts.fetch_sub(1, Ordering::Relaxed);
        self.room.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Room;
    use crate::sink::group_commit::QueueLimits;

    #[test]
    fn so_many_puts_and_bytes_have_room() {
        let room = Room::new(QueueLimits {
            puts: 2,
            bytes: 100,
        });
        let first = room.take(99).expect("has room");
        let second = room.take(99).expect("is not full yet");
        assert!(room.take(1).is_err(), "both are reached");
        drop(first);
        let third = room.take(1).expect("has room again");
        drop((second, third));
        let large = room.take(100).expect("one is always taken");
        assert!(room.take(1).is_err(), "the bytes are reached");
        drop(large);
        assert!(room.take(1).is_ok());
    }
}
