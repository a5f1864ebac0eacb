//! The numbers of a server: its requests and its connections.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::histogram::{Histogram, Observations, Stopwatch};
use super::instances::InstanceCounts;
use super::recent_events::RecentEvents;
use super::{Counter, Writers};
use crate::util::thread_number::Shards;

/// The numbers of a server.
#[derive(Debug)]
pub(crate) struct ServerMetrics {
    shards: Shards<Shard>,
    /// Whether anybody can read the times of requests.
    is_timed: AtomicBool,
    pub(crate) instances: Arc<InstanceCounts>,
    pub(crate) recent_events: RecentEvents,
    /// Connections that were closed at once: their address has too many, or the server is closing.
    pub(crate) connections_refused: Counter,
    /// Connections that were closed because they were idle for too long.
    pub(crate) connections_timed_out: Counter,
    /// Connections that were closed because they were idle and others waited.
    pub(crate) connections_evicted: Counter,
    /// Connections of trusted proxies that were closed for their header of the PROXY protocol.
    pub(crate) proxy_headers_invalid: Counter,
    /// TLS handshakes that failed after their first byte.
    pub(crate) handshakes_failed: Counter,
}

/// The numbers that change with each request or connection.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Shard {
    /// Puts that were stored.
    pub(crate) stored: Counter,
    /// Bytes of bodies that were received.
    pub(crate) body_bytes: Counter,
    pub(crate) connections_opened: Counter,
    pub(crate) connections_ended: Counter,
    /// From the end of the header section to the response.
    pub(crate) request_time: Histogram,
    /// The calls of the guest, with what comes before: the instance, and, where the clock is not read in between, the
    /// header section. A wait for the body is not in it.
    pub(crate) guest_time: Histogram,
    /// The puts of the sink.
    pub(crate) sink_time: Histogram,
}

/// The shard of a thread, to add to its numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnShard<'a> {
    shard: &'a Shard,
    writers: Writers,
    /// It must not get to another thread.
    not_send: PhantomData<*const ()>,
}

impl Default for ServerMetrics {
    fn default() -> Self {
        Self {
            shards: Shards::new(Shard::new),
            is_timed: AtomicBool::new(false),
            instances: Arc::default(),
            recent_events: RecentEvents::default(),
            connections_refused: Counter::default(),
            connections_timed_out: Counter::default(),
            connections_evicted: Counter::default(),
            proxy_headers_invalid: Counter::default(),
            handshakes_failed: Counter::default(),
        }
    }
}

impl Shard {
    fn new() -> Self {
        Self {
            stored: Counter::default(),
            body_bytes: Counter::default(),
            connections_opened: Counter::default(),
            connections_ended: Counter::default(),
            request_time: Histogram::of_seconds(),
            guest_time: Histogram::of_seconds(),
            sink_time: Histogram::of_seconds(),
        }
    }
}

impl ServerMetrics {
    /// Observes the times of requests from now on.
    pub(crate) fn enable_timing(&self) {
        self.is_timed.store(true, Ordering::Relaxed);
    }

    /// Starts to measure a time of a request, if anybody can read it.
    pub(crate) fn stopwatch(&self) -> Stopwatch {
        Stopwatch::start_if(self.is_timed.load(Ordering::Relaxed))
    }

    /// The shard of this thread.
    pub(crate) fn shard(&self) -> OwnShard<'_> {
        let (shard, is_own) = self.shards.own();
        let writers = if is_own { Writers::One } else { Writers::Many };
        OwnShard {
            shard,
            writers,
            not_send: PhantomData,
        }
    }

    /// A counter of all shards together.
    pub(crate) fn sum(&self, counter: impl Fn(&Shard) -> &Counter) -> u64 {
        self.shards.iter().map(|shard| counter(shard).get()).sum()
    }

    /// A histogram of all shards together.
    pub(crate) fn observations(&self, histogram: impl Fn(&Shard) -> &Histogram) -> Observations {
        Histogram::total(self.shards.iter().map(histogram))
    }
}

impl OwnShard<'_> {
    /// Counts a put that was stored.
    pub(crate) fn count_stored(self) {
        self.shard.stored.add_of(self.writers, 1);
    }

    /// Counts bytes of a body that were received.
    pub(crate) fn count_body_bytes(self, bytes: u64) {
        self.shard.body_bytes.add_of(self.writers, bytes);
    }

    /// Counts a connection that was accepted.
    pub(crate) fn count_connection_opened(self) {
        self.shard.connections_opened.add_of(self.writers, 1);
    }

    /// Counts a connection that has ended.
    pub(crate) fn count_connection_ended(self) {
        self.shard.connections_ended.add_of(self.writers, 1);
    }

    /// Observes the time of a request.
    pub(crate) fn observe_request(self, start: Stopwatch, end: Stopwatch) {
        let time = &self.shard.request_time;
        time.observe_between(start, end, self.writers);
    }

    /// Observes the time of the guest, which ends now. Returns that end.
    pub(crate) fn observe_guest(self, start: Stopwatch) -> Stopwatch {
        self.shard.guest_time.observe_since(start, self.writers)
    }

    /// Observes the time of the sink, which ends now. Returns that end.
    pub(crate) fn observe_sink(self, start: Stopwatch) -> Stopwatch {
        self.shard.sink_time.observe_since(start, self.writers)
    }
}
