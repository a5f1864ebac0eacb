//! The limits of a server: their defaults, their ranges, and the check of their ranges.
//!
//! Each limit is enforced where its name is used. Sinks with a queue have limits of their own, see
//! [`QueueLimits`](crate::sinks::QueueLimits).

use std::time::Duration;

use alldata_peer_protocol::decode::MAX_BODY_BYTES;

use crate::error::Error;

/// The limits of a server. Limits that are not set have their defaults:
///
/// ```
/// use alldata_peer_server_http::{Limits, PeerServer};
///
/// let builder = PeerServer::builder().limits(Limits {
///     max_connections: 100,
///     ..Limits::default()
/// });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many connections are served at a time. When another one arrives, the connection that has been
    /// idle longest is closed; if none is idle, the new one waits. Connections that are given to
    /// [`serve_connection`](crate::PeerServer::serve_connection) do not count.
    pub max_connections: u32,
    /// How many connections one IPv4 address, or one IPv6 network (/64), may have at a time; 0 for any
    /// number. Further ones are closed at once.
    pub max_connections_per_address: u32,
    /// The size of the request line and the header section in bytes. The response to a larger one is 431,
    /// or 414 if the request line alone is larger, and the connection is closed.
    pub max_header_bytes: u32,
    /// How many header fields a request may have. The response to one with more is 431, and the connection
    /// is closed.
    pub max_headers: u32,
    /// How long the header section may take from its first byte to its end. Then the connection is closed.
    /// For a header section that starts in the same packet as the end of the previous request, the time
    /// starts with the next packet.
    pub header_read_timeout: Duration,
    /// How long a connection may be without a request, or a response unread by its client. Then it is
    /// closed, at the latest a fifth of that time later.
    pub idle_timeout: Duration,
    /// The size of a body in bytes. The response to a larger one is 413, as to one with more chunk framing
    /// than its data and a read buffer.
    pub max_body_bytes: u64,
    /// The bytes of request bodies in memory. The response to a body beyond that is 503, or 413 if it is
    /// larger by itself. A quarter is reserved for bodies of up to 64 KiB.
    pub max_buffered_bytes: u64,
    /// How long a body may take to arrive. The response to a slower one is 408.
    pub body_timeout: Duration,
    /// How many bytes of a body have to arrive per second, averaged over 5 s; 0 for any number. The
    /// response to a slower one is 408.
    pub min_body_rate: u64,
    /// How many requests are handled at a time. The response to further ones is 503.
    pub max_concurrent_requests: u32,
    /// How long the sink may take for a put. The response to a slower put is 504.
    pub sink_timeout: Duration,
    /// How many bytes of linear memory one instance of the component may have; each of its memories may
    /// have half of the default. An instance that needs more traps: 500. The built-in component needs up to
    /// three times the size of the body.
    pub max_guest_memory_bytes: u64,
    /// The processor time of the component in one call. One that takes longer is stopped: 500.
    pub max_guest_time: Duration,
    /// How many times an instance of the component is called before it is replaced; 1 for a new instance
    /// each time. An instance that trapped is always replaced.
    pub max_instance_reuse_count: u32,
    /// How long [`PeerServer::close`](crate::PeerServer::close) waits for the requests in service, and then
    /// for the sink to be flushed.
    pub drain_timeout: Duration,
}

/// The shortest time-out.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

impl Limits {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        // More than peers and their pools open. A silent one takes some 20 KB, one with the largest header
        // section half sent 60 KB: 500 MB if all are like that.
        max_connections: 8192,
        // Behind a proxy that is not trusted all connections have the same address.
        max_connections_per_address: 0,
        // Four times the largest that peers and the proxies between them send.
        max_header_bytes: 32 * 1024,
        // This many are parsed on the stack; more would be allocated for each request.
        max_headers: 100,
        // A header section is one packet.
        header_read_timeout: Duration::from_secs(10),
        // Longer than clients keep an unused connection, so that the server rarely closes one just when it
        // is used.
        idle_timeout: Duration::from_secs(75),
        max_body_bytes: MAX_BODY_BYTES as u64,
        // More than all ordinary events in requests in service, or 16 of the largest, which take three
        // times as much memory, and with a composed component up to eight times.
        max_buffered_bytes: 256 * 1024 * 1024,
        // At the largest size: 4.5 Mbit/s.
        body_timeout: Duration::from_secs(30),
        // A fifth of the rate of the slowest mobile networks.
        min_body_rate: 256,
        // Requests wait for the sink, not for a processor. The price is address space and some memory.
        max_concurrent_requests: 1024,
        sink_timeout: Duration::from_secs(30),
        // A body of 16 MiB, twice that while its buffer grows, and as much again for a composed sink that
        // compares two events.
        max_guest_memory_bytes: 128 * 1024 * 1024,
        // The largest body takes the built-in component less than 0.1 s.
        max_guest_time: Duration::from_secs(5),
        // An instance keeps no state, so this only bounds the cost of a leak.
        max_instance_reuse_count: 1_000_000,
        // Longer than the time-out of the sink.
        drain_timeout: Duration::from_secs(35),
    };

    /// The highest value of each limit. For a time-out it means that there is none.
    pub const MAX: Self = Self {
        // As many file descriptors as a system allows one process.
        max_connections: 1_048_576,
        max_connections_per_address: 1_048_576,
        max_header_bytes: 1024 * 1024,
        max_headers: 1000,
        header_read_timeout: Duration::MAX,
        idle_timeout: Duration::MAX,
        // The limit of the built-in component.
        max_body_bytes: MAX_BODY_BYTES as u64,
        max_buffered_bytes: u64::MAX,
        body_timeout: Duration::MAX,
        min_body_rate: u64::MAX,
        // The most instances that the pool of the engine can address.
        max_concurrent_requests: 4096,
        sink_timeout: Duration::MAX,
        max_guest_memory_bytes: Self::DEFAULT.max_guest_memory_bytes,
        max_guest_time: Duration::MAX,
        max_instance_reuse_count: u32::MAX,
        drain_timeout: Duration::MAX,
    };

    /// Checks that each limit is within its range.
    pub(crate) fn check(&self) -> Result<(), Error> {
        for (setting, value, least, most) in self.ranges() {
            if !(least..=most).contains(&value) {
                return Err(Error::InvalidSetting {
                    setting,
                    value: value.to_string(),
                    expected: format!("{least} to {most}"),
                });
            }
        }
        for (setting, timeout) in [
            ("header_read_timeout", self.header_read_timeout),
            ("idle_timeout", self.idle_timeout),
            ("body_timeout", self.body_timeout),
            ("sink_timeout", self.sink_timeout),
            ("max_guest_time", self.max_guest_time),
            ("drain_timeout", self.drain_timeout),
        ] {
            if timeout < MIN_TIMEOUT {
                return Err(Error::InvalidSetting {
                    setting,
                    value: format!("{timeout:?}"),
                    expected: format!("{MIN_TIMEOUT:?} or more"),
                });
            }
        }
        Ok(())
    }

    /// The name of each limit that is not a time-out, its value, and its range.
    fn ranges(&self) -> [(&'static str, u64, u64, u64); 9] {
        let max = &Self::MAX;
        [
            (
                "max_connections",
                self.max_connections.into(),
                1,
                max.max_connections.into(),
            ),
            (
                "max_connections_per_address",
                self.max_connections_per_address.into(),
                0,
                max.max_connections_per_address.into(),
            ),
            (
                "max_header_bytes",
                self.max_header_bytes.into(),
                1,
                max.max_header_bytes.into(),
            ),
            (
                "max_headers",
                self.max_headers.into(),
                1,
                max.max_headers.into(),
            ),
            ("max_body_bytes", self.max_body_bytes, 1, max.max_body_bytes),
            (
                "max_buffered_bytes",
                self.max_buffered_bytes,
                1,
                max.max_buffered_bytes,
            ),
            (
                "max_concurrent_requests",
                self.max_concurrent_requests.into(),
                1,
                max.max_concurrent_requests.into(),
            ),
            (
                "max_guest_memory_bytes",
                self.max_guest_memory_bytes,
                1,
                max.max_guest_memory_bytes,
            ),
            (
                "max_instance_reuse_count",
                self.max_instance_reuse_count.into(),
                1,
                max.max_instance_reuse_count.into(),
            ),
        ]
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
