//! The numbers that a server and its sink keep for operators.
//!
//! They are plain counters and histograms, updated without locks; a number that changes with each put has a
//! shard for each thread. Other files encode them. Numbers that are kept elsewhere anyway, such as the
//! permits in use, are read there when they are asked for.

pub(crate) mod histogram;
pub(crate) mod instances;
pub(crate) mod recent_events;
pub(crate) mod server_metrics;
pub(crate) mod sink_metrics;

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows. For events that are rarer than puts: all threads share it.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
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
