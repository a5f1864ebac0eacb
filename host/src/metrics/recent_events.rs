//! The events that were stored last, for a person who looks at a server.
//!
//! They are recorded only while somebody looks: otherwise a put loads one flag, which rarely changes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// For how long after somebody looked events are recorded.
const WATCH_TIME: Duration = Duration::from_secs(60);

/// How many events are kept: a screen of them.
const MAX_EVENTS: usize = 20;

/// The most bytes of an event's text that are kept.
const MAX_TEXT_BYTES: usize = 512;

/// Whether somebody looks.
const UNWATCHED: u8 = 0;
const KEYS: u8 = 1;
const TEXTS: u8 = 2;

/// The last events.
#[derive(Debug, Default)]
pub(crate) struct RecentEvents {
    watched: AtomicU8,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    looked_at: Option<Instant>,
    events: VecDeque<RecentEvent>,
}

/// An event that was stored.
#[derive(Debug, Clone)]
pub(crate) struct RecentEvent {
    pub(crate) key: String,
    pub(crate) bytes: usize,
    pub(crate) time: SystemTime,
    /// The beginning of its text, if that was asked for.
    pub(crate) event: Option<String>,
}

/// An event that is being put.
pub(crate) struct PendingEvent {
    bytes: usize,
    event: Option<String>,
}

impl RecentEvents {
    /// The last events, the newest first. Further ones are recorded for a while, with their texts if
    /// `shows_events`.
    pub(crate) fn watch(&self, shows_events: bool) -> Vec<RecentEvent> {
        let watched = if shows_events { TEXTS } else { KEYS };
        self.watched.store(watched, Ordering::Relaxed);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.looked_at = Some(Instant::now());
        last.events.iter().rev().cloned().collect()
    }

    /// The part of an event that will be recorded, if somebody looks.
    pub(crate) fn begin(&self, event: &str) -> Option<PendingEvent> {
        match self.watched.load(Ordering::Relaxed) {
            UNWATCHED => None,
            watched => Some(PendingEvent {
                bytes: event.len(),
                event: (watched == TEXTS).then(|| beginning(event)),
            }),
        }
    }

    /// Records an event that was stored. No put waits for another: if the lock is held, the event is left out.
    #[cold]
    pub(crate) fn record(&self, key: &str, pending: PendingEvent) {
        let Ok(mut last) = self.last.try_lock() else {
            return;
        };
        let is_watched = last.looked_at.is_some_and(|at| at.elapsed() < WATCH_TIME);
        if !is_watched {
            self.watched.store(UNWATCHED, Ordering::Relaxed);
            last.events.clear();
            return;
        }
        if last.events.len() == MAX_EVENTS {
            last.events.pop_front();
        }
        last.events.push_back(RecentEvent {
            key: key.to_owned(),
            bytes: pending.bytes,
            time: SystemTime::now(),
            event: pending.event,
        });
    }
}

fn beginning(event: &str) -> String {
    match event.get(..event.floor_char_boundary(MAX_TEXT_BYTES)) {
        Some(start) if start.len() < event.len() => format!("{start}…"),
        _ => event.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_EVENTS, MAX_TEXT_BYTES, RecentEvents};

    fn record(recent: &RecentEvents, key: &str, event: &str) {
        if let Some(pending) = recent.begin(event) {
            recent.record(key, pending);
        }
    }

    #[test]
    fn events_are_recorded_only_while_watched() {
        let recent = RecentEvents::default();
        record(&recent, "before", "1");
        assert!(recent.watch(false).is_empty());
        for number in 0..=MAX_EVENTS {
            record(&recent, &number.to_string(), "\"text\"");
        }
        let events = recent.watch(true);
        assert_eq!(events.len(), MAX_EVENTS);
        assert_eq!((&*events[0].key, events[0].bytes), ("20", 6));
        assert_eq!(events[0].event, None);
    }

    #[test]
    fn text_is_bounded_and_only_kept_if_asked_for() {
        let recent = RecentEvents::default();
        recent.watch(true);
        record(&recent, "long", &"é".repeat(MAX_TEXT_BYTES));
        let events = recent.watch(false);
        let text = events[0].event.as_deref().expect("is kept");
        assert_eq!(text, "é".repeat(MAX_TEXT_BYTES / 2) + "…");
    }
}
