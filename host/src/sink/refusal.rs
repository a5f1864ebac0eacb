//! Why a request was not answered with 201: the reasons, and one refused request.
//!
//! Counting and logging them is for `refusals`.

use alldata_peer_guest::outcome::Outcome;
use serde::Deserialize;
use tracing::Level;

use crate::sink::PutError;

/// How many bytes of a key are logged: all of the longest key.
const MAX_KEY_BYTES: usize = 1024;

/// How many bytes of a detail are logged. It may be the text of a foreign component.
const MAX_DETAIL_BYTES: usize = 512;

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

/// What is logged of a [`Reason`].
pub(crate) struct Description {
    pub(crate) reason: Reason,
    /// A short name for programs that read the log.
    pub(crate) name: &'static str,
    /// The status code of the answer, or 0 where it is not always the same.
    pub(crate) status: u16,
    pub(crate) level: Level,
    pub(crate) text: &'static str,
}

/// All reasons, in the order of the enum. What an operator has to act on is a warning; what only the client
/// can mend is information.
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

    /// The reason for a status code that a component answers, about which nothing else is known.
    fn of_status(status: u16) -> Self {
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

/// One refused request, as far as the log tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) status: u16,
    pub(crate) key: Option<String>,
    pub(crate) detail: Option<String>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason) -> Self {
        Self {
            reason,
            status: reason.describe().status,
            key: None,
            detail: None,
        }
    }

    /// That of an outcome that the host answers itself.
    pub(crate) fn of_outcome(outcome: &Outcome) -> Self {
        let answer = outcome.answer();
        let detail = answer
            .problem
            .map(|problem| printable(&problem.detail, MAX_DETAIL_BYTES));
        let status = answer.status;
        let (reason, detail) = match outcome {
            // Where the sink has failed, `put_sink` tells more; where it is a guest, its caller.
            Outcome::Unavailable { .. } => (Reason::TooManyInFlight, None),
            Outcome::Unknown => (Reason::Timeout, None),
            Outcome::Failed => (Reason::Failed, None),
            _ => (Reason::of_status(status), detail),
        };
        Self {
            reason,
            status,
            key: None,
            detail,
        }
    }

    /// That of an answer of a component with a problem document, or with something else.
    pub(crate) fn of_answer(status: u16, problem: &str) -> Self {
        #[derive(Deserialize)]
        struct Problem {
            detail: String,
        }
        let problem: Option<Problem> = serde_json::from_str(problem).ok();
        Self {
            reason: Reason::of_status(status),
            status,
            key: None,
            detail: problem.map(|problem| printable(&problem.detail, MAX_DETAIL_BYTES)),
        }
    }

    /// That of a put that its sink did not acknowledge.
    pub(crate) fn of_put(
        error: &PutError,
        key: &str,
        unavailable: impl FnOnce() -> Reason,
    ) -> Self {
        let (reason, detail) = match error {
            PutError::Conflict => (Reason::Conflict, None),
            PutError::Rejected(text) => (Reason::Rejected, Some(text)),
            PutError::Unavailable { .. } => (unavailable(), None),
            PutError::Unknown => (Reason::Unknown, None),
            PutError::Failed(text) => (Reason::Failed, Some(text)),
        };
        Self {
            key: Some(printable(key, MAX_KEY_BYTES)),
            detail: detail.map(|text| printable(text, MAX_DETAIL_BYTES)),
            ..Self::new(reason)
        }
    }
}

/// Text as it may stand in the log, bounded. What is below U+007F the log itself escapes.
fn printable(text: &str, most: usize) -> String {
    let mut printable = String::new();
    for char in text.chars() {
        if printable.len() + char.len_utf8() > most {
            printable.push('…');
            break;
        }
        match char {
            '\0'..='~' => printable.push(char),
            _ => printable.extend(char.escape_debug()),
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::{MAX_DETAIL_BYTES, REASONS, Reason, Refusal, printable};

    #[test]
    fn reasons_are_listed_in_their_order_and_have_names_of_their_own() {
        for (number, described) in REASONS.iter().enumerate() {
            assert_eq!(described.reason as usize, number);
            let same = REASONS.iter().filter(|other| other.name == described.name);
            assert_eq!(same.count(), 1);
        }
    }

    #[test]
    fn problem_detail_is_bounded_and_escaped() {
        let refusal = Refusal::of_answer(400, r#"{"detail":"It is no é\u009bJSON."}"#);
        assert_eq!(refusal.reason, Reason::BadRequest);
        assert_eq!(refusal.detail.as_deref(), Some("It is no é\\u{9b}JSON."));
        assert_eq!(Refusal::of_answer(418, "tea").detail, None);
        let long = printable(&"é".repeat(MAX_DETAIL_BYTES), MAX_DETAIL_BYTES);
        assert_eq!(long, "é".repeat(MAX_DETAIL_BYTES / 2) + "…");
    }
}
