//! The other side of the protocol: what a peer client sends, and what an answer means to it.
//!
//! Never opens a connection and never sends again: it knows one request and its answer.

use alloc::format;
use alloc::string::String;

use serde::Deserialize;

/// The most bytes of an answer's body that a client reads: its detail may be a sink's reason, but
/// is for a person to read.
pub const MAX_PROBLEM_BYTES: usize = 64 * 1024;

/// After how many seconds to try again where the peer did not say.
pub const DEFAULT_RETRY_SECONDS: u32 = 1;

/// What stands in the body of a `_put` after the event.
pub const PUT_TAIL: &str = "}";

/// What stands in the body of a `_put` before the event.
///
/// # Panics
///
/// Never: a string always serializes.
#[must_use]
pub fn put_head(key: &str) -> String {
    let key = serde_json::to_string(key).expect("a string always serializes");
    ["{\"key\":", &key, ",\"event\":"].concat()
}

/// The body of a `_put`, with the event byte for byte as it is.
#[must_use]
pub fn put_body(key: &str, event: &str) -> String {
    [&put_head(key), event, PUT_TAIL].concat()
}

/// Why a peer did not acknowledge a put, as its answer tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The key holds a different event, and keeps it.
    Conflict,
    /// The event is refused now and for ever, for this reason.
    Rejected(String),
    /// The event is not stored, but may be later.
    Unavailable {
        /// After how many seconds to try again.
        retry_after_seconds: u32,
    },
    /// The event may or may not be stored.
    Unknown,
    /// The peer is broken, or is no peer. The event may or may not be stored.
    Failed(String),
}

/// What is read of a problem document.
#[derive(Deserialize)]
struct Problem {
    detail: String,
}

/// What an answer means: its status code, its field `Retry-After` and its body.
///
/// # Errors
///
/// When it does not acknowledge the put.
pub fn read_answer(status: u16, retry_after: Option<&str>, body: &[u8]) -> Result<(), Refusal> {
    let detail = || match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => problem.detail,
        Err(_) => format!("The peer answered {status}."),
    };
    match status {
        201 => Ok(()),
        409 => Err(Refusal::Conflict),
        400 | 413 | 422 => Err(Refusal::Rejected(detail())),
        408 | 429 | 503 => Err(Refusal::Unavailable {
            // Its form as a date is not one that peers send.
            retry_after_seconds: retry_after
                .and_then(|seconds| seconds.parse().ok())
                .unwrap_or(DEFAULT_RETRY_SECONDS),
        }),
        504 => Err(Refusal::Unknown),
        _ => Err(Refusal::Failed(format!("{status}: {}", detail()))),
    }
}

#[cfg(test)]
mod tests {
    use super::{Refusal, put_body, read_answer};
    use crate::decode::decode;
    use crate::outcome::{Outcome, Problem};

    #[test]
    fn what_is_sent_is_what_is_decoded() {
        let body = put_body("a\"\u{1}é", "[1, 2.50]");
        let put = decode(body.as_bytes()).expect("is a put");
        assert_eq!((&*put.key, put.event), ("a\"\u{1}é", "[1, 2.50]"));
    }

    /// The outcome of a peer, said by its answer and read from it, is the same again.
    #[test]
    fn an_answer_means_what_it_was_made_for() {
        let unavailable = |retry_after_seconds| Refusal::Unavailable {
            retry_after_seconds,
        };
        for (outcome, meant) in [
            (Outcome::Stored, Ok(())),
            (Outcome::Conflict, Err(Refusal::Conflict)),
            (
                Outcome::Rejected("No.".into()),
                Err(Refusal::Rejected("No.".into())),
            ),
            (
                Outcome::Unavailable {
                    retry_after_seconds: 7,
                },
                Err(unavailable(7)),
            ),
            (Outcome::TooSlow, Err(unavailable(1))),
            (Outcome::Unknown, Err(Refusal::Unknown)),
        ] {
            let answer = outcome.answer();
            let body = answer.problem.as_ref().map(Problem::to_json);
            let retry_after = answer.header.map(|(_, value)| value);
            let body = body.unwrap_or_default();
            assert_eq!(
                read_answer(answer.status, retry_after.as_deref(), body.as_bytes()),
                meant
            );
        }
    }

    #[test]
    fn what_no_peer_answers_is_a_failure_or_an_overload() {
        for status in [200, 204, 301, 401, 404, 405, 500, 502] {
            let answer = read_answer(status, Some("3"), b"<html>");
            assert!(matches!(answer, Err(Refusal::Failed(_))), "{status}");
        }
        for retry_after in ["soon", "-1", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            let seconds = Refusal::Unavailable {
                retry_after_seconds: 1,
            };
            assert_eq!(read_answer(503, Some(retry_after), b""), Err(seconds));
        }
    }
}
