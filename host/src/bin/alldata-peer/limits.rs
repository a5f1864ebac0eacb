//! The flags of `serve` that set limits.

use alldata_peer_server_http::sinks::{
    DEFAULT_MAX_QUEUED_BYTES, DEFAULT_MAX_QUEUED_PUTS, MAX_QUEUED_PUTS, QueueLimits, SinkOptions,
};
use alldata_peer_server_http::store::{DEFAULT_MAX_WAL_BYTES, MIN_MAX_WAL_BYTES};
use alldata_peer_server_http::{self as peer, PeerServerBuilder};
use clap::{Args, value_parser};

use crate::open_files;
use crate::units::{self, Bytes, TIME, Timeout};

/// The heading of the limits in the help. It identifies them among all arguments.
pub(crate) const HEADING: &str = "Limits";

/// The limits of a server.
#[derive(Debug, Args)]
#[command(next_help_heading = HEADING)]
pub(crate) struct Limits {
    /// Connections at a time; when another one arrives, the connection idle longest is closed
    #[arg(long, env = "ALLDATA_PEER_MAX_CONNECTIONS", value_name = "CONNECTIONS",
        default_value_t = peer::Limits::DEFAULT.max_connections,
        value_parser = value_parser!(u32).range(1..=i64::from(peer::Limits::MAX.max_connections)))]
    max_connections: u32,
    /// Connections of one IPv4 address or IPv6 network (/64) at a time, or 0 for any number; further ones
    /// are closed at once
    #[arg(long, env = "ALLDATA_PEER_MAX_CONNECTIONS_PER_ADDRESS", value_name = "CONNECTIONS",
        default_value_t = 0,
        value_parser = value_parser!(u32).range(0..=i64::from(peer::Limits::MAX.max_connections)))]
    max_connections_per_address: u32,
    /// Bytes of a request line and header section; the response to a larger one is 431
    #[arg(long, env = "ALLDATA_PEER_MAX_HEADER_SIZE", value_name = "BYTES",
        default_value_t = Bytes(peer::Limits::DEFAULT.max_header_bytes.into()),
        value_parser = units::bytes(1..=u64::from(peer::Limits::MAX.max_header_bytes)))]
    max_header_size: Bytes,
    /// Header fields of a request; the response to more is 431
    #[arg(long, env = "ALLDATA_PEER_MAX_HEADERS", value_name = "FIELDS",
        default_value_t = peer::Limits::DEFAULT.max_headers,
        value_parser = value_parser!(u32).range(1..=i64::from(peer::Limits::MAX.max_headers)))]
    max_headers: u32,
    /// How long the header section of a request may take to arrive; then the connection is closed
    #[arg(long, env = "ALLDATA_PEER_HEADER_READ_TIMEOUT", value_name = TIME,
        default_value_t = Timeout(peer::Limits::DEFAULT.header_read_timeout), value_parser = units::timeout())]
    header_read_timeout: Timeout,
    /// How long a connection may be without a request
    #[arg(long, env = "ALLDATA_PEER_IDLE_TIMEOUT", value_name = TIME,
        default_value_t = Timeout(peer::Limits::DEFAULT.idle_timeout), value_parser = units::timeout())]
    idle_timeout: Timeout,
    /// Bytes of a body; the response to a larger one is 413
    #[arg(long, env = "ALLDATA_PEER_MAX_BODY", value_name = "BYTES",
        default_value_t = Bytes(peer::Limits::DEFAULT.max_body_bytes),
        value_parser = units::bytes(1..=peer::Limits::DEFAULT.max_body_bytes))]
    max_body: Bytes,
    /// Bytes of request bodies in memory; the response to a body beyond that is 503
    #[arg(long, env = "ALLDATA_PEER_MAX_BUFFERED_BYTES", value_name = "BYTES",
        default_value_t = Bytes(peer::Limits::DEFAULT.max_buffered_bytes), value_parser = units::bytes(1..=u64::MAX))]
    max_buffered_bytes: Bytes,
    /// How long a body may take to arrive; the response to a slower one is 408
    #[arg(long, env = "ALLDATA_PEER_BODY_TIMEOUT", value_name = TIME,
        default_value_t = Timeout(peer::Limits::DEFAULT.body_timeout), value_parser = units::timeout())]
    body_timeout: Timeout,
    /// Bytes of a body that have to arrive per second, averaged over 5 s, or 0 for any number; the response
    /// to a slower body is 408
    #[arg(long, env = "ALLDATA_PEER_MIN_BODY_RATE", value_name = "BYTES",
        default_value_t = Bytes(peer::Limits::DEFAULT.min_body_rate), value_parser = units::bytes(0..=u64::MAX))]
    min_body_rate: Bytes,
    /// Requests that are handled at a time; the response to further ones is 503
    #[arg(long, env = "ALLDATA_PEER_MAX_CONCURRENT_REQUESTS", value_name = "REQUESTS",
        default_value_t = peer::Limits::DEFAULT.max_concurrent_requests,
        value_parser = value_parser!(u32).range(1..=i64::from(peer::Limits::MAX.max_concurrent_requests)))]
    max_concurrent_requests: u32,
    /// Puts in the queue of sqlite:, ndjson: or nats:; the response to further ones is 503
    #[arg(long, env = "ALLDATA_PEER_MAX_QUEUE", value_name = "PUTS",
        default_value_t = DEFAULT_MAX_QUEUED_PUTS as u64,
        value_parser = value_parser!(u64).range(1..=MAX_QUEUED_PUTS as u64))]
    max_queue: u64,
    /// Bytes of puts in that queue; the response to further ones is 503
    #[arg(long, env = "ALLDATA_PEER_MAX_QUEUE_BYTES", value_name = "BYTES",
        default_value_t = Bytes(DEFAULT_MAX_QUEUED_BYTES as u64), value_parser = units::bytes(1..=u64::MAX))]
    max_queue_bytes: Bytes,
    /// Bytes of the WAL of sqlite:, which grows during a long read; the response to puts beyond that is 503
    #[arg(long, env = "ALLDATA_PEER_MAX_WAL", value_name = "BYTES",
        default_value_t = Bytes(DEFAULT_MAX_WAL_BYTES),
        value_parser = units::bytes(MIN_MAX_WAL_BYTES..=u64::MAX))]
    max_wal: Bytes,
    /// How long the sink may take for a put; the response to a slower one is 504
    #[arg(long, env = "ALLDATA_PEER_SINK_TIMEOUT", value_name = TIME,
        default_value_t = Timeout(peer::Limits::DEFAULT.sink_timeout), value_parser = units::timeout())]
    sink_timeout: Timeout,
    /// Bytes of memory of one instance of the component; beyond that it traps, and the response is 500
    #[arg(long, env = "ALLDATA_PEER_MAX_GUEST_MEMORY", value_name = "BYTES",
        default_value_t = Bytes(peer::Limits::DEFAULT.max_guest_memory_bytes),
        value_parser = units::bytes(1..=peer::Limits::DEFAULT.max_guest_memory_bytes))]
    max_guest_memory: Bytes,
    /// Processor time of the component in one call; then it is stopped, and the response is 500
    #[arg(long, env = "ALLDATA_PEER_MAX_GUEST_TIME", value_name = TIME,
        default_value_t = Timeout(peer::Limits::DEFAULT.max_guest_time), value_parser = units::timeout())]
    max_guest_time: Timeout,
    /// Times that one instance of the component is called before it is replaced
    #[arg(long, env = "ALLDATA_PEER_MAX_INSTANCE_REUSE_COUNT", value_name = "CALLS",
        default_value_t = peer::Limits::DEFAULT.max_instance_reuse_count, value_parser = value_parser!(u32).range(1..))]
    max_instance_reuse_count: u32,
    /// How long the shutdown waits for requests in service and the flush of the sink
    #[arg(long, env = "ALLDATA_PEER_DRAIN_TIMEOUT", value_name = TIME,
        default_value_t = Timeout(peer::Limits::DEFAULT.drain_timeout), value_parser = units::timeout())]
    drain_timeout: Timeout,
}

impl Limits {
    /// Sets the limits of a server.
    pub(crate) fn apply_to(&self, server: PeerServerBuilder) -> PeerServerBuilder {
        server.limits(peer::Limits {
            max_connections: open_files::raise_nofile_limit(self.max_connections),
            max_connections_per_address: self.max_connections_per_address,
            max_header_bytes: u32::try_from(self.max_header_size.0).unwrap_or(u32::MAX),
            max_headers: self.max_headers,
            header_read_timeout: self.header_read_timeout.0,
            idle_timeout: self.idle_timeout.0,
            max_body_bytes: self.max_body.0,
            max_buffered_bytes: self.max_buffered_bytes.0,
            body_timeout: self.body_timeout.0,
            min_body_rate: self.min_body_rate.0,
            max_concurrent_requests: self.max_concurrent_requests,
            sink_timeout: self.sink_timeout.0,
            max_guest_memory_bytes: self.max_guest_memory.0,
            max_guest_time: self.max_guest_time.0,
            max_instance_reuse_count: self.max_instance_reuse_count,
            drain_timeout: self.drain_timeout.0,
        })
    }

    /// The limits of the sink.
    pub(crate) fn sink_options(&self) -> SinkOptions {
        let number = |value| usize::try_from(value).unwrap_or(usize::MAX);
        SinkOptions {
            queue: QueueLimits {
                puts: number(self.max_queue),
                bytes: number(self.max_queue_bytes.0),
            },
            max_wal_bytes: self.max_wal.0,
            ..SinkOptions::default()
        }
    }
}
