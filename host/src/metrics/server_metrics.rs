//! The numbers of a server: its requests and its connections.

use std::sync::Arc;

use super::Counter;
use super::histogram::{Histogram, Observations};
use super::instances::InstanceCounts;
use super::recent_events::RecentEvents;
use crate::util::thread_number::{own_shard, shards};

/// The numbers of a server.
#[derive(Debug)]
pub(crate) struct ServerMetrics {
    shards: Box<[Shard]>,
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

/// The numbers that change with each request or connection. There are enough shards that threads which run at the same time do not wait for one cache line.
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

impl Default for ServerMetrics {
    fn default() -> Self {
        Self {
            shards: shards(Shard::new),
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
    /// The shard of this thread, to change its numbers.
    pub(crate) fn shard(&self) -> &Shard {
        own_shard(&self.shards)
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
