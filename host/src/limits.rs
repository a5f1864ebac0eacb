//! The limits of a server: what each one is unless it is set, how it is set, and what it may be.
//!
//! Never holds anything to a limit: that is for those who are given it. Those of a store's queue are
//! with the queue.

use std::time::Duration;

use alldata_peer_guest::decode::MAX_BODY_BYTES;

use crate::error::Error;
use crate::server::builder::PeerServerBuilder;

/// How many connections are served at a time: more than peers and their pools open. A silent one
/// takes some 20 KB, one with the largest head half sent 60 KB: 500 MB where all are like that.
pub const DEFAULT_MAX_CONNECTIONS: u32 = 8192;

/// The most connections that may be served at a time: as many as a system allows file descriptors
/// to one process.
pub const MAX_CONNECTIONS: u32 = 1_048_576;

/// The size in bytes of a request line and its header fields: four times what peers and the proxies
/// between them send at their most talkative.
pub const DEFAULT_MAX_HEADER_BYTES: u32 = 32 * 1024;

/// The largest size in bytes that a head may be allowed to have.
pub const MAX_HEADER_BYTES: u32 = 1024 * 1024;

/// How many header fields a request may have. Room for so many is on the stack of whoever parses
/// them; for more it would be allocated for each request.
pub const DEFAULT_MAX_HEADERS: u32 = 100;

/// The most header fields that a request may be allowed to have.
pub const MAX_HEADERS: u32 = 1000;

/// How long the head of a request may take from its first byte to its last. It is one packet.
pub const DEFAULT_HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may be without a request: longer than clients keep an unused connection, so
/// that it is rarely this end that closes one.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// The largest body in bytes, and what a lower setting may not exceed: the built-in component's
/// own limit.
pub const DEFAULT_MAX_BODY_BYTES: u64 = MAX_BODY_BYTES as u64;

/// How many bytes all bodies that are in flight may have together: more than all
/// ordinary events that are in flight, or 16 of the largest, which take three times as much memory,
/// and with a composed component up to eight times.
pub const DEFAULT_MAX_BUFFERED_BYTES: u64 = 256 * 1024 * 1024;

/// How long a body may take to arrive as a whole: at the largest size, 4.5 Mbit/s.
pub const DEFAULT_BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How many bytes of a body have to arrive in a second, on the average of five: a fifth of what the
/// slowest mobile networks carry.
pub const DEFAULT_MIN_BODY_RATE: u64 = 256;

/// How long a sink may take for a put.
pub const DEFAULT_SINK_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a closing server waits for what is in flight: longer than a sink may take.
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(35);

/// How many requests are handled at a time. Each waits for the sink, not for a processor, so the
/// number is much larger than that of the cores; its price is address space and some memory.
pub const DEFAULT_MAX_CONCURRENT_REQUESTS: u32 = 1024;

/// The most requests that may be handled at a time: what an engine's pool can address.
pub const MAX_CONCURRENT_REQUESTS: u32 = 4096;

/// How many times one instance of the guest is called before it is replaced. It keeps no state
/// between them, so this only bounds what a leak could cost.
pub const DEFAULT_MAX_INSTANCE_REUSE_COUNT: u32 = 1_000_000;

/// How much memory one instance of the guest may have, in bytes: a body of 16 MiB, twice that while
/// its buffer grows, and as much again for a sink that is composed with it and compares two events.
pub const DEFAULT_MAX_GUEST_MEMORY_BYTES: u64 = 128 * 1024 * 1024;

/// How long a guest may compute in one call, not counting when it waits. The largest body takes
/// the built-in one less than a tenth of a second.
pub const DEFAULT_MAX_GUEST_TIME: Duration = Duration::from_secs(5);

/// All limits of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_connections: u32,
    /// 0 for any number.
    pub(crate) max_connections_per_address: u32,
    pub(crate) max_header_bytes: u32,
    pub(crate) max_headers: u32,
    pub(crate) header_read_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_body_bytes: u64,
    pub(crate) max_buffered_bytes: u64,
    pub(crate) body_timeout: Duration,
    pub(crate) min_body_rate: u64,
    pub(crate) sink_timeout: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) max_concurrent_requests: u32,
    pub(crate) max_instance_reuse_count: u32,
    pub(crate) max_guest_memory_bytes: u64,
    pub(crate) max_guest_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: DEFAULT_MAX_CONNECTIONS,
            // Behind a proxy all connections are of one address.
            max_connections_per_address: 0,
            max_header_bytes: DEFAULT_MAX_HEADER_BYTES,
            max_headers: DEFAULT_MAX_HEADERS,
            header_read_timeout: DEFAULT_HEADER_READ_TIMEOUT,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            max_body_bytes: DEFAULT_MAX_BODY_BYTES,
            max_buffered_bytes: DEFAULT_MAX_BUFFERED_BYTES,
            body_timeout: DEFAULT_BODY_TIMEOUT,
            min_body_rate: DEFAULT_MIN_BODY_RATE,
            sink_timeout: DEFAULT_SINK_TIMEOUT,
            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
            max_concurrent_requests: DEFAULT_MAX_CONCURRENT_REQUESTS,
            max_instance_reuse_count: DEFAULT_MAX_INSTANCE_REUSE_COUNT,
            max_guest_memory_bytes: DEFAULT_MAX_GUEST_MEMORY_BYTES,
            max_guest_time: DEFAULT_MAX_GUEST_TIME,
        }
    }
}

impl Limits {
    /// Holds that each is what it may be.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let most = |setting, value, most| (setting, value, 1..=most);
        let settings = [
            most(
                "max_connections",
                self.max_connections.into(),
                MAX_CONNECTIONS.into(),
            ),
            most(
                "max_header_bytes",
                self.max_header_bytes.into(),
                MAX_HEADER_BYTES.into(),
            ),
            most("max_headers", self.max_headers.into(), MAX_HEADERS.into()),
            most(
                "max_body_bytes",
                self.max_body_bytes,
                DEFAULT_MAX_BODY_BYTES,
            ),
            most("max_buffered_bytes", self.max_buffered_bytes, u64::MAX),
            most(
                "max_concurrent_requests",
                self.max_concurrent_requests.into(),
                MAX_CONCURRENT_REQUESTS.into(),
            ),
            most(
                "max_instance_reuse_count",
                self.max_instance_reuse_count.into(),
                u32::MAX.into(),
            ),
            most(
                "max_guest_memory_bytes",
                self.max_guest_memory_bytes,
                DEFAULT_MAX_GUEST_MEMORY_BYTES,
            ),
        ];
        for (setting, value, range) in settings {
            if !range.contains(&value) {
                return Err(Error::Setting {
                    setting,
                    value: value.to_string(),
                    expected: format!("1 to {}", range.end()),
                });
            }
        }
        Ok(())
    }
}

/// The limits.
impl PeerServerBuilder {
    /// How many connections are served at a time, 1 to [`MAX_CONNECTIONS`] and
    /// [`DEFAULT_MAX_CONNECTIONS`] unless given. For one beyond, the connection is closed that has been
    /// without a request the longest; where each has one, it waits. Connections that were accepted
    /// elsewhere do not count.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.limits.max_connections = connections;
        self
    }

    /// How many connections one IPv4 address, or one IPv6 network of 64 bits, may have at a time: 0,
    /// which is the default, for any number. Those beyond are closed at once.
    pub fn max_connections_per_address(mut self, connections: u32) -> Self {
        self.limits.max_connections_per_address = connections;
        self
    }

    /// The size in bytes of a request line and its header fields with all that separates them, 1 to
    /// [`MAX_HEADER_BYTES`] and [`DEFAULT_MAX_HEADER_BYTES`] unless given. A larger one is answered with
    /// 431, or 414 where its request line alone is larger, and its connection is closed.
    pub fn max_header_bytes(mut self, bytes: u32) -> Self {
        self.limits.max_header_bytes = bytes;
        self
    }

    /// How many header fields a request may have, 1 to [`MAX_HEADERS`] and
    /// [`DEFAULT_MAX_HEADERS`] unless given. One with more is answered with 431, and its
    /// connection is closed.
    pub fn max_headers(mut self, fields: u32) -> Self {
        self.limits.max_headers = fields;
        self
    }

    /// How long the head of a request may take from its first byte to its last,
    /// [`DEFAULT_HEADER_READ_TIMEOUT`] unless given. Then its connection is closed. The beginning of a head
    /// that comes in one packet with the request before it is not seen: for that the idle time-out
    /// counts, until more of it comes.
    pub fn header_read_timeout(mut self, timeout: Duration) -> Self {
        self.limits.header_read_timeout = timeout;
        self
    }

    /// How long a connection may be without a request, [`DEFAULT_IDLE_TIMEOUT`] unless given. It is
    /// closed no sooner, and no later than a fifth of that after. So is one whose client does not
    /// read its answer.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.limits.idle_timeout = timeout;
        self
    }

    /// The largest body in bytes: 1 to [`DEFAULT_MAX_BODY_BYTES`]. A larger one is answered
    /// with 413, and so is one whose chunks have more framing than that and a read buffer.
    pub fn max_body_bytes(mut self, bytes: u64) -> Self {
        self.limits.max_body_bytes = bytes;
        self
    }

    /// How many bytes all bodies that are in flight may have together,
    /// [`DEFAULT_MAX_BUFFERED_BYTES`] unless given. One that goes beyond is answered with 503, or
    /// with 413 where it does so alone. A quarter is for bodies of up to 64 KiB, so that a few large
    /// ones keep nobody out.
    pub fn max_buffered_bytes(mut self, bytes: u64) -> Self {
        self.limits.max_buffered_bytes = bytes;
        self
    }

    /// How long a body may take to arrive as a whole, [`DEFAULT_BODY_TIMEOUT`] unless given. A
    /// slower one is answered with 408.
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.limits.body_timeout = timeout;
        self
    }

    /// How many bytes of a body have to arrive in a second, on the average of each 5 s;
    /// [`DEFAULT_MIN_BODY_RATE`] unless given, and 0 for none. A slower one is answered with 408.
    pub fn min_body_rate(mut self, bytes_per_second: u64) -> Self {
        self.limits.min_body_rate = bytes_per_second;
        self
    }

    /// How long the sink may take for a put, [`DEFAULT_SINK_TIMEOUT`] unless given. A slower one
    /// is answered with 504.
    pub fn sink_timeout(mut self, timeout: Duration) -> Self {
        self.limits.sink_timeout = timeout;
        self
    }

    /// How long [`PeerServer::close`](crate::PeerServer::close) waits for what is in flight,
    /// [`DEFAULT_DRAIN_TIMEOUT`] unless given.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.limits.drain_timeout = timeout;
        self
    }

    /// How many requests guests handle at a time, 1 to [`MAX_CONCURRENT_REQUESTS`] and
    /// [`DEFAULT_MAX_CONCURRENT_REQUESTS`] unless given. Those beyond are answered with 503.
    pub fn max_concurrent_requests(mut self, requests: u32) -> Self {
        self.limits.max_concurrent_requests = requests;
        self
    }

    /// How many times one instance of the guest is called before it is replaced, for a request or for the
    /// error that a put came to, [`DEFAULT_MAX_INSTANCE_REUSE_COUNT`] unless given; 1 is a fresh one each time. One
    /// that trapped is always replaced.
    pub fn max_instance_reuse_count(mut self, requests: u32) -> Self {
        self.limits.max_instance_reuse_count = requests;
        self
    }

    /// How many bytes of linear memory one instance of the guest may have, 1 to
    /// [`DEFAULT_MAX_GUEST_MEMORY_BYTES`]; each of its memories may have half of that default. One
    /// that needs more traps: 500. For a body, the built-in one needs up to three times its size.
    pub fn max_guest_memory_bytes(mut self, bytes: u64) -> Self {
        self.limits.max_guest_memory_bytes = bytes;
        self
    }

    /// How long a guest may compute in one call, not counting when it waits,
    /// [`DEFAULT_MAX_GUEST_TIME`] unless given. One that takes longer is stopped: 500.
    pub fn max_guest_time(mut self, time: Duration) -> Self {
        self.limits.max_guest_time = time;
        self
    }
}
