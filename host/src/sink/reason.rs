//! The reasons for which a request is not answered with 201, with their names in the log.

use tracing::Level;

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    BadRequest,
    MethodNotAllowed,
    RequestTimeout,
    Conflict,
    ContentTooLarge,
    UriTooLong,
    UnsupportedMediaType,
    Rejected,
    HeaderTooLarge,
    NotImplemented,
    HttpVersionNotSupported,
    OtherStatus,
    Failed,
    TooManyInFlight,
    TooManyBodyBytes,
    QueueFull,
    QueueBytesFull,
    StoreBusy,
    WalFull,
    ComparisonBusy,
    MemoryFull,
    StreamFull,
    SinkUnavailable,
    ComponentUnavailable,
    Timeout,
    Unknown,
}

/// How a [`Reason`] is logged.
pub(crate) struct Description {
    pub(crate) reason: Reason,
    /// A short name for programs that read the log.
    pub(crate) name: &'static str,
    /// The status code of the answer, or 0 where it is not always the same.
    pub(crate) status: u16,
    pub(crate) level: Level,
    pub(crate) text: &'static str,
}

/// All reasons, in the order of the enum. A reason that an operator has to act on is logged as a warning,
/// one that only the client can remedy as information.
pub(crate) static REASONS: [Description; 26] = [
    info(
        Reason::BadRequest,
        400,
        "bad_request",
        "the request is not a valid put",
    ),
    info(
        Reason::MethodNotAllowed,
        405,
        "method_not_allowed",
        "the method is not POST",
    ),
    info(
        Reason::RequestTimeout,
        408,
        "request_timeout",
        "the body did not arrive in time (--body-timeout, --min-body-rate)",
    ),
    warn(
        Reason::Conflict,
        409,
        "conflict",
        "the key already holds a different event, which stays",
    ),
    info(
        Reason::ContentTooLarge,
        413,
        "content_too_large",
        "the body is over the limit (--max-body)",
    ),
    info(
        Reason::UriTooLong,
        414,
        "uri_too_long",
        "the request line is over the limit (--max-header-size)",
    ),
    info(
        Reason::UnsupportedMediaType,
        415,
        "unsupported_media_type",
        "the body has a content coding",
    ),
    warn(
        Reason::Rejected,
        422,
        "rejected",
        "the sink refuses the event for good",
    ),
    info(
        Reason::HeaderTooLarge,
        431,
        "header_too_large",
        "the header section is over a limit (--max-header-size, --max-headers)",
    ),
    info(
        Reason::NotImplemented,
        501,
        "not_implemented",
        "the body has a transfer coding other than chunked",
    ),
    info(
        Reason::HttpVersionNotSupported,
        505,
        "http_version_not_supported",
        "the request is of another version than HTTP/1",
    ),
    info(
        Reason::OtherStatus,
        0,
        "other_status",
        "answered with another status",
    ),
    warn(
        Reason::Failed,
        500,
        "failed",
        "the sink or the component failed",
    ),
    warn(
        Reason::TooManyInFlight,
        503,
        "too_many_in_flight",
        "too many requests are handled at the same time (--max-concurrent-requests)",
    ),
    warn(
        Reason::TooManyBodyBytes,
        503,
        "too_many_body_bytes",
        "the bodies in flight have too many bytes (--max-buffered-bytes)",
    ),
    warn(
        Reason::QueueFull,
        503,
        "queue_full",
        "too many puts wait for the sink (--max-queue)",
    ),
    warn(
        Reason::QueueBytesFull,
        503,
        "queue_bytes_full",
        "the puts that wait for the sink have too many bytes (--max-queue-bytes)",
    ),
    warn(
        Reason::StoreBusy,
        503,
        "store_busy",
        "the store can't be written now: another process locks it",
    ),
    warn(
        Reason::WalFull,
        503,
        "wal_full",
        "the WAL of the store is full, since somebody reads for long (--max-wal)",
    ),
    warn(
        Reason::ComparisonBusy,
        503,
        "comparison_busy",
        "too many large events wait to be compared with those that their keys hold",
    ),
    warn(
        Reason::MemoryFull,
        503,
        "memory_full",
        "the memory of the sink is full",
    ),
    warn(
        Reason::StreamFull,
        503,
        "stream_full",
        "the NATS stream is full",
    ),
    warn(
        Reason::SinkUnavailable,
        503,
        "sink_unavailable",
        "the sink can't take the event now",
    ),
    warn(
        Reason::ComponentUnavailable,
        503,
        "component_unavailable",
        "the component can't take the event now",
    ),
    warn(
        Reason::Timeout,
        504,
        "timeout",
        "the sink did not answer in time (--sink-timeout)",
    ),
    warn(
        Reason::Unknown,
        504,
        "unknown",
        "the sink can't tell whether the event is stored",
    ),
];

const fn info(reason: Reason, status: u16, name: &'static str, text: &'static str) -> Description {
    Description {
        reason,
        name,
        status,
        level: Level::INFO,
        text,
    }
}

const fn warn(reason: Reason, status: u16, name: &'static str, text: &'static str) -> Description {
    let level = Level::WARN;
    Description {
        level,
        ..info(reason, status, name, text)
    }
}

impl Reason {
    pub(crate) fn describe(self) -> &'static Description {
        &REASONS[self as usize]
    }

    /// The reason for a response of which only the status code is known.
    pub(crate) fn of_status(status: u16) -> Self {
        match status {
            400 => Self::BadRequest,
            405 => Self::MethodNotAllowed,
            408 => Self::RequestTimeout,
            409 => Self::Conflict,
            413 => Self::ContentTooLarge,
            414 => Self::UriTooLong,
            415 => Self::UnsupportedMediaType,
            422 => Self::Rejected,
            431 => Self::HeaderTooLarge,
            500 => Self::Failed,
            501 => Self::NotImplemented,
            503 => Self::ComponentUnavailable,
            504 => Self::Unknown,
            505 => Self::HttpVersionNotSupported,
            _ => Self::OtherStatus,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::REASONS;

    #[test]
    fn reasons_are_in_the_order_of_the_enum_and_have_unique_names() {
        for (number, described) in REASONS.iter().enumerate() {
            assert_eq!(described.reason as usize, number);
            let same = REASONS.iter().filter(|other| other.name == described.name);
            assert_eq!(same.count(), 1);
        }
    }
}
