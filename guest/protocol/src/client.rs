//! The other side of the protocol: what a peer client sends, and what an answer means to it.
//!
//! Never opens a connection and never sends again: it knows one request and its answer.

use alloc::format;
use alloc::string::String;

use serde::Deserialize;

/// The most bytes of an answer's body that a client reads: its detail may be a sink's reason, but
/// is for a person to read.
pub const MAX_PROBLEM_BYTES: usize = 64 * 1024;

/// The most characters of another's text that go to a log.
pub const MAX_LOGGED_CHARS: usize = 500;

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
    /// This peer does not take the event, for this reason; another one may.
    Unfit(String),
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
    #[serde(default)]
    retry: bool,
}

/// What an answer means: its status code, its field `Retry-After` and its body.
///
/// # Errors
///
/// When it does not acknowledge the put.
pub fn read_answer(status: u16, retry_after: Option<&str>, body: &[u8]) -> Result<(), Refusal> {
    let problem = serde_json::from_slice::<Problem>(body).ok();
    let (is_problem, retry) = (
        problem.is_some(),
        problem.as_ref().is_some_and(|it| it.retry),
    );
    let detail = problem.map(|problem| problem.detail);
    let detail = detail.unwrap_or_else(|| format!("The peer answered {status}."));
    // Its form as a date is not one that peers send.
    let retry_after = retry_after.and_then(|seconds| seconds.parse().ok());
    let unavailable = Refusal::Unavailable {
        retry_after_seconds: retry_after.unwrap_or(DEFAULT_RETRY_SECONDS),
    };
    Err(match status {
        201 => return Ok(()),
        409 => Refusal::Conflict,
        422 => Refusal::Rejected(detail),
        // The body was cut off on its way.
        400 if retry => unavailable,
        400 if is_problem => Refusal::Unfit(detail),
        413 => Refusal::Unfit(detail),
        408 | 429 | 503 => unavailable,
        504 => Refusal::Unknown,
        _ => Refusal::Failed(one_line(&format!("{status}: {detail}"))),
    })
}

/// A text for a log: without control characters, which could pass for another line, and not
/// longer than [`MAX_LOGGED_CHARS`].
#[must_use]
pub fn one_line(text: &str) -> String {
    let chars = text.chars().take(MAX_LOGGED_CHARS);
    chars
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect()
}

/// A text for a terminal: with control characters, and those that change the direction of what
/// follows, written as escapes such as `\u{1b}`, so that they do nothing.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for char in text.chars() {
        let is_direction = matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if char.is_control() || is_direction {
            printable.extend(char.escape_default());
        } else {
            printable.push(char);
        }
    }
    printable
}

/// Whether a text is the authority of an `http:` or `https:` URL without a user name: `HOST` or
/// `HOST:PORT`, with a port that there is. Parsers of URLs take a port beyond 65535 for none.
#[must_use]
pub fn is_authority(text: &str) -> bool {
    // An IPv6 address stands in brackets, with colons in it.
    let host_end = text.rfind(']').map_or(0, |bracket| bracket + 1);
    let (host, port) = match text[host_end..].find(':') {
        Some(colon) => (&text[..host_end + colon], &text[host_end + colon + 1..]),
        None => (text, ""),
    };
    let is_port = port.is_empty()
        || port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port != 0);
    !host.is_empty() && !host.contains('@') && is_port
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::{
        MAX_LOGGED_CHARS, Refusal, is_authority, one_line, printable, put_body, read_answer,
    };
    use crate::decode::{DecodeError, decode};
    use crate::outcome::Outcome;

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
            (Outcome::CutOff, Err(unavailable(1))),
            (
                Outcome::TooLarge { limit: Some(9) },
                Err(Refusal::Unfit(
                    "The body has more than 9 bytes, the limit.".into(),
                )),
            ),
            (
                Outcome::Malformed(DecodeError::NoEvent),
                Err(Refusal::Unfit(DecodeError::NoEvent.to_string())),
            ),
            (Outcome::Unknown, Err(Refusal::Unknown)),
        ] {
            let answer = outcome.answer();
            let body = answer.body();
            let retry_after = answer.header.map(|(_, value)| value);
            assert_eq!(
                read_answer(answer.status, retry_after.as_deref(), body.as_bytes()),
                meant
            );
        }
    }

    #[test]
    fn what_goes_to_a_log_is_one_line() {
        assert_eq!(one_line("a\nb\u{1b}[0m\u{85}é"), "a b [0m é");
        assert_eq!(
            one_line(&"é".repeat(9_999)).chars().count(),
            MAX_LOGGED_CHARS
        );
    }

    #[test]
    fn control_characters_are_escaped_for_a_terminal() {
        assert_eq!(
            printable("a\n\u{1b}[0m\u{9b}\u{7f}\u{202e}é\"\\"),
            "a\\n\\u{1b}[0m\\u{9b}\\u{7f}\\u{202e}é\"\\"
        );
    }

    #[test]
    fn authority_has_a_host_and_a_port_that_there_is() {
        for text in [
            "a",
            "a:",
            "a:1",
            "a:65535",
            "[::1]",
            "[::1]:80",
            "127.0.0.1:8080",
        ] {
            assert!(is_authority(text), "{text}");
        }
        for text in [
            "",
            ":80",
            "a:0",
            "a:65536",
            "a:99999",
            "a:4294967376",
            "a:-1",
            "a:+1",
            "a:x",
            "a:1:2",
            "[::1]:99999",
            "u@a",
            "u:p@a:80",
        ] {
            assert!(!is_authority(text), "{text}");
        }
    }

    #[test]
    fn what_no_peer_answers_is_a_failure_or_an_overload() {
        for status in [200, 204, 301, 400, 401, 404, 405, 500, 502] {
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
