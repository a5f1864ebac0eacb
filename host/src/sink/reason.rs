//! The reasons why a request has no response with 201, with their names in the log.

use tracing::Level;

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    BadRequest,
    Unauthorized,
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
    /// The status code of the response, or 0 if it varies.
    pub(crate) status: u16,
    pub(crate) level: Level,
    pub(crate) text: &'static str,
}

/// All reasons, in the order of the enum. A reason that an operator has to act on is logged as a warning,
/// one that only the client can remedy as information.
pub(crate) static REASONS: [Description; 27] = [
    info(
        Reason::BadRequest,
        400,
        "bad_request",
        "the request is not a valid put",
    ),
    info(
        Reason::Unauthorized,
        401,
        "unauthorized",
        "the request has no valid token (--token-file)",
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
        "the key already has a different event, which is kept",
    ),
    info(
        Reason::ContentTooLarge,
        413,
        "content_too_large",
        "the body exceeds the limit (--max-body)",
    ),
    info(
        Reason::UriTooLong,
        414,
        "uri_too_long",
        "the request line exceeds the limit (--max-header-size)",
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
        "the sink refuses the event permanently",
    ),
    info(
        Reason::HeaderTooLarge,
        431,
        "header_too_large",
        "the header section exceeds a limit (--max-header-size, --max-headers)",
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
        "the response has another status code",
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
        "too many requests at a time (--max-concurrent-requests)",
    ),
    warn(
        Reason::TooManyBodyBytes,
        503,
        "too_many_body_bytes",
        "too many bytes of request bodies in memory (--max-buffered-bytes)",
    ),
    warn(
        Reason::QueueFull,
        503,
        "queue_full",
        "too many puts in the queue of the sink (--max-queue)",
    ),
    warn(
        Reason::QueueBytesFull,
        503,
        "queue_bytes_full",
        "too many bytes of puts in the queue of the sink (--max-queue-bytes)",
    ),
    warn(
        Reason::StoreBusy,
        503,
        "store_busy",
        "the store is locked by another process",
    ),
    warn(
        Reason::WalFull,
        503,
        "wal_full",
        "the WAL of the store is full, because a long read keeps it from shrinking (--max-wal)",
    ),
    warn(
        Reason::ComparisonBusy,
        503,
        "comparison_busy",
        "too many large events wait to be compared with the stored ones",
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
        "the sink is unavailable",
    ),
    warn(
        Reason::ComponentUnavailable,
        503,
        "component_unavailable",
        "the component is unavailable",
    ),
    warn(
        Reason::Timeout,
        504,
        "timeout",
        "the sink did not complete the put in time (--sink-timeout)",
    ),
    warn(
        Reason::Unknown,
        504,
        "unknown",
        "it is unknown whether the event is stored",
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

impl Description {
    /// The status code for a metric.
    #[cfg(feature = "admin")]
    pub(crate) fn status_label(&self) -> String {
        match self.status {
            0 => "other".to_owned(),
            status => status.to_string(),
        }
    }
}

impl Reason {
    pub(crate) fn describe(self) -> &'static Description {
        &REASONS[self as usize]
    }

    /// The reason for a response of which only the status code is known.
    pub(crate) fn from_status(status: u16) -> Self {
        match status {
            400 => Self::BadRequest,
            401 => Self::Unauthorized,
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
    fn reasons_have_order_of_enum_and_unique_names() {
        for (number, described) in REASONS.iter().enumerate() {
            assert_eq!(described.reason as usize, number);
            let same = REASONS.iter().filter(|other| other.name == described.name);
            assert_eq!(same.count(), 1);
        }
    }
}
