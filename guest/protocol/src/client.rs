//! The client's side of the protocol: the body of a request, and the meaning of a response.
//!
//! Knows one request and its response: opens no connection, and does not retry.

use alloc::format;
use alloc::string::String;

use serde::Deserialize;

/// The most bytes of a response's body that a client reads. Its detail may be a sink's reason, but is
/// for a person to read.
pub const MAX_PROBLEM_BYTES: usize = 64 * 1024;

/// The most characters of a foreign text that are logged.
pub const MAX_LOGGED_CHARS: usize = 500;

/// After how many seconds to try again where the peer did not say.
pub const DEFAULT_RETRY_SECONDS: u32 = 1;

/// The body of a `_put` after the event.
pub const PUT_BODY_END: &str = "}";

/// The body of a `_put` up to the event.
///
/// # Panics
///
/// Never: a string always serializes.
#[must_use]
pub fn put_body_start(key: &str) -> String {
    let key = serde_json::to_string(key).expect("a string always serializes");
    ["{\"key\":", &key, ",\"event\":"].concat()
}

/// The body of a `_put`, with the event byte for byte as it is.
#[must_use]
pub fn put_body(key: &str, event: &str) -> String {
    [&put_body_start(key), event, PUT_BODY_END].concat()
}

/// Why a peer did not acknowledge a put, by its response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerError {
    /// The key holds a different event, and keeps it.
    Conflict,
    /// The event is refused now and for ever, for this reason.
    Rejected(String),
    /// This peer does not accept the event, for this reason; another one may.
    NotAccepted(String),
    /// The event is not stored, but may be later.
    Unavailable {
        /// After how many seconds to try again.
        retry_after_seconds: u32,
    },
    /// The event may or may not be stored.
    Unknown,
    /// The peer failed, or is not a peer. The event may or may not be stored.
    Failed(String),
}

/// The members of a problem document that are read.
#[derive(Deserialize)]
struct Problem {
    detail: String,
    #[serde(default)]
    retry: bool,
}

/// The meaning of a response: of its status code, its field `Retry-After` and its body.
///
/// # Errors
///
/// When the response does not acknowledge the put.
pub fn read_response(status: u16, retry_after: Option<&str>, body: &[u8]) -> Result<(), PeerError> {
    let problem = serde_json::from_slice::<Problem>(body).ok();
    let (is_problem, retry) = (
        problem.is_some(),
        problem.as_ref().is_some_and(|it| it.retry),
    );
    let detail = problem.map(|problem| problem.detail);
    let detail = detail.unwrap_or_else(|| format!("The peer answered {status}."));
    // The form as a date is never sent by a peer.
    let retry_after = retry_after.and_then(|seconds| seconds.parse().ok());
    let unavailable = PeerError::Unavailable {
        retry_after_seconds: retry_after.unwrap_or(DEFAULT_RETRY_SECONDS),
    };
    Err(match status {
        201 => return Ok(()),
        409 => PeerError::Conflict,
        422 => PeerError::Rejected(detail),
        // The body arrived incomplete.
        400 if retry => unavailable,
        400 if is_problem => PeerError::NotAccepted(detail),
        413 => PeerError::NotAccepted(detail),
        408 | 429 | 503 => unavailable,
        504 => PeerError::Unknown,
        _ => PeerError::Failed(one_line(&format!("{status}: {detail}"))),
    })
}

/// A text for a log: at most [`MAX_LOGGED_CHARS`] characters, without control characters, which could
/// imitate another line.
#[must_use]
pub fn one_line(text: &str) -> String {
    let chars = text.chars().take(MAX_LOGGED_CHARS);
    chars
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect()
}

/// A text for a terminal: control characters, and those that change the direction of the text, are
/// written as escapes such as `\u{1b}`.
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
/// `HOST:PORT`, with a port of 1 to 65535. Parsers of URLs read a larger one as no port.
#[must_use]
pub fn is_authority(text: &str) -> bool {
    // An IPv6 address is in brackets, and has colons.
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
        MAX_LOGGED_CHARS, PeerError, is_authority, one_line, printable, put_body, read_response,
    };
    use crate::decode::{DecodeError, decode};
    use crate::outcome::Outcome;

    #[test]
    fn body_decodes_to_its_key_and_event() {
        let body = put_body("a\"\u{1}é", "[1, 2.50]");
        let put = decode(body.as_bytes()).expect("is a put");
        assert_eq!((&*put.key, put.event), ("a\"\u{1}é", "[1, 2.50]"));
    }

    #[test]
    fn outcome_is_read_back_from_its_response() {
        let unavailable = |retry_after_seconds| PeerError::Unavailable {
            retry_after_seconds,
        };
        for (outcome, meant) in [
            (Outcome::Stored, Ok(())),
            (Outcome::Conflict, Err(PeerError::Conflict)),
            (
                Outcome::Rejected("No.".into()),
                Err(PeerError::Rejected("No.".into())),
            ),
            (
                Outcome::Unavailable {
                    retry_after_seconds: 7,
                },
                Err(unavailable(7)),
            ),
            (Outcome::RequestTimeout, Err(unavailable(1))),
            (Outcome::IncompleteBody, Err(unavailable(1))),
            (
                Outcome::ContentTooLarge { limit: Some(9) },
                Err(PeerError::NotAccepted(
                    "The body has more than 9 bytes, the limit.".into(),
                )),
            ),
            (
                Outcome::Malformed(DecodeError::NoEvent),
                Err(PeerError::NotAccepted(DecodeError::NoEvent.to_string())),
            ),
            (Outcome::Unknown, Err(PeerError::Unknown)),
        ] {
            let response = outcome.response();
            let body = response.body();
            let retry_after = response.header.map(|(_, value)| value);
            assert_eq!(
                read_response(response.status, retry_after.as_deref(), body.as_bytes()),
                meant
            );
        }
    }

    #[test]
    fn logged_text_is_one_line() {
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
    fn authority_has_a_host_and_a_valid_port() {
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
    fn response_of_no_peer_is_a_failure_or_an_overload() {
        for status in [200, 204, 301, 400, 401, 404, 405, 500, 502] {
            let result = read_response(status, Some("3"), b"<html>");
            assert!(matches!(result, Err(PeerError::Failed(_))), "{status}");
        }
        for retry_after in ["soon", "-1", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            let seconds = PeerError::Unavailable {
                retry_after_seconds: 1,
            };
            assert_eq!(read_response(503, Some(retry_after), b""), Err(seconds));
        }
    }
}
