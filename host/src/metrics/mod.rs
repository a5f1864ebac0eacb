//! The numbers that a server and its sink keep for operators.
//!
//! They are plain counters and histograms, updated without locks. A number that changes with each put has shards: one for
//! each of the first threads, which adds to it by a load and a store, and some for all others. Other files encode them.
//! Numbers that are kept elsewhere anyway, such as the permits in use, are read there when they are asked for.

pub(crate) mod histogram;
pub(crate) mod instances;
pub(crate) mod recent_events;
pub(crate) mod server_metrics;
pub(crate) mod sink_metrics;

use std::sync::atomic::{AtomicU64, Ordering};

/// How many threads add to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writers {
    One,
    Many,
}

impl Writers {
    /// Adds to a number. One thread needs no atomic addition, which takes ten times as long.
    fn add(self, number: &AtomicU64, addend: u64) {
        match self {
            Self::One => {
                let sum = number.load(Ordering::Relaxed).wrapping_add(addend);
                number.store(sum, Ordering::Relaxed);
            }
            Self::Many => {
                number.fetch_add(addend, Ordering::Relaxed);
            }
        }
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    /// Adds from any thread, which is for events that are rarer than puts.
    pub(crate) fn add(&self, number: u64) {
        self.add_of(Writers::Many, number);
    }

    fn add_of(&self, writers: Writers, number: u64) {
        writers.add(&self.0, number);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that one thread sets, and others read.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn set(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
