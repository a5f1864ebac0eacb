//! Reads the body of a `_put`: one JSON object with a `key` and an `event`.
//!
//! The event is borrowed from the body as it was sent, and not serialized again. Decoding does not recurse,
//! so that no nesting overflows the stack, and panics on no input.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use core::fmt;
use core::ops::Range;

use serde::de::IgnoredAny;

use crate::json_string::to_text;
use crate::members::Members;
use crate::skip::is_white_space;

/// The longest key in bytes of UTF-8, after unescaping. Real keys have 19 to 27; the limit
/// keeps a key small enough for every store to index.
pub const MAX_KEY_BYTES: usize = 1024;

/// The largest body in bytes. A host may set a lower limit, never a higher one: the
/// component's memory is sized for this.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// The put that a body asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put<'body> {
    /// The key, unescaped: 1 to [`MAX_KEY_BYTES`] bytes.
    pub key: Cow<'body, str>,
    /// The JSON text of the event, byte for byte as sent, without the white space around it.
    pub event: &'body str,
}

/// A position in the body. Line and column are counted from 1; columns count bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Number of the line.
    pub line: usize,
    /// Number of the byte in the line.
    pub column: usize,
}

/// Why a body is not a `_put`. Its `Display` is one sentence for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeError {
    /// No bytes, or white space alone.
    Empty,
    /// The body starts with a byte order mark, which RFC 8259 section 8.1 forbids.
    ByteOrderMark,
    /// The body is not UTF-8 from this position on.
    NotUtf8(Position),
    /// The body is not one JSON text. Holds the parser's reason with line and column.
    NotJson(String),
    /// The body is JSON, but not an object.
    NotAnObject,
    /// There is no member `key`.
    NoKey,
    /// The member `key` is not a string.
    KeyNotAString(Position),
    /// The key has an unpaired surrogate, so it is not Unicode text.
    KeyNotUnicode(Position),
    /// The key is the empty string.
    KeyEmpty(Position),
    /// The key has more than [`MAX_KEY_BYTES`] bytes.
    KeyTooLong {
        /// The position of the key.
        at: Position,
        /// How many bytes it has.
        bytes: usize,
    },
    /// There is no member `event`.
    NoEvent,
}

/// Reads the body of a `_put`.
///
/// Members other than `key` and `event` are ignored, members may come in any order, and of a
/// member given twice the last counts.
///
/// # Errors
///
/// When the body is anything else than such an object; see [`DecodeError`].
#[expect(
    unsafe_code,
    reason = "another check for UTF-8 would be a fifth of the time that a put of 16 MB takes in user mode"
)]
pub fn decode(body: &[u8]) -> Result<Put<'_>, DecodeError> {
    let members = Members::find(body).ok_or_else(|| invalid(body))?;
    let text = if members.is_ascii {
        debug_assert!(body.is_ascii());
        // SAFETY: `Members::find` has read all of the body, and found that it is ASCII.
        unsafe { core::str::from_utf8_unchecked(body) }
    } else {
        simdutf8::basic::from_utf8(body).map_err(|_| invalid(body))?
    };
    let member = |range: Option<Range<usize>>| text.get(range?);
    let key = decode_key(text, member(members.key).ok_or(DecodeError::NoKey)?)?;
    let event = member(members.event).ok_or(DecodeError::NoEvent)?;
    Ok(Put { key, event })
}

/// The error of a body that is not UTF-8, found again with its position, or not an object, with the reason of serde_json
/// if it is not JSON.
#[cold]
fn invalid(body: &[u8]) -> DecodeError {
    if body.starts_with(b"\xEF\xBB\xBF") {
        return DecodeError::ByteOrderMark;
    }
    let text = match core::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) => return DecodeError::NotUtf8(Position::of(body, error.valid_up_to())),
    };
    if text.bytes().all(is_white_space) {
        return DecodeError::Empty;
    }
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => DecodeError::NotAnObject,
        Err(error) => DecodeError::NotJson(error.to_string()),
    }
}

fn decode_key<'body>(text: &'body str, raw: &'body str) -> Result<Cow<'body, str>, DecodeError> {
    // `raw` is a slice of `text`, so the difference of their addresses is its offset.
    let offset = raw.as_ptr().addr() - text.as_ptr().addr();
    let at = || Position::of(text.as_bytes(), offset);
    if !raw.starts_with('"') {
        return Err(DecodeError::KeyNotAString(at()));
    }
    let Some(key) = to_text(raw) else {
        return Err(DecodeError::KeyNotUnicode(at()));
    };
    match key.len() {
        0 => Err(DecodeError::KeyEmpty(at())),
        bytes if bytes > MAX_KEY_BYTES => Err(DecodeError::KeyTooLong { at: at(), bytes }),
        _ => Ok(key),
    }
}

impl Position {
    fn of(body: &[u8], offset: usize) -> Self {
        let before = &body[..offset];
        let line_start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |newline| newline + 1);
        Self {
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: offset - line_start + 1,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {} column {}", self.line, self.column)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(
                formatter,
                "The body is empty: send {{\"key\":…,\"event\":…}}."
            ),
            Self::ByteOrderMark => write!(
                formatter,
                "The body starts with a byte order mark, which JSON does not allow."
            ),
            Self::NotUtf8(at) => write!(formatter, "The body is not UTF-8 at {at}."),
            Self::NotJson(reason) => write!(formatter, "The body is not JSON: {reason}."),
            Self::NotAnObject => write!(
                formatter,
                "The body is not an object: send {{\"key\":…,\"event\":…}}."
            ),
            Self::NoKey => write!(formatter, "The object has no member \"key\"."),
            Self::KeyNotAString(at) => write!(formatter, "The key at {at} is not a string."),
            Self::KeyNotUnicode(at) => write!(
                formatter,
                "The key at {at} has an unpaired surrogate, so it is not Unicode text."
            ),
            Self::KeyEmpty(at) => write!(formatter, "The key at {at} is empty."),
            Self::KeyTooLong { at, bytes } => write!(
                formatter,
                "The key at {at} has {bytes} bytes: at most {MAX_KEY_BYTES} are allowed."
            ),
            Self::NoEvent => write!(formatter, "The object has no member \"event\"."),
        }
    }
}

impl core::error::Error for DecodeError {}

#[cfg(test)]
mod tests {
    use alloc::format;

    use proptest::prelude::*;

    use super::{DecodeError, MAX_KEY_BYTES, Position, decode};
    use crate::members::tests::json;

    #[test]
    fn members_may_come_in_any_order() {
        for body in [
            r#"{"key":"k","event":{"a":1}}"#,
            r#" { "event" : {"a":1} , "key" : "k" } "#,
            r#"{"other":[{}],"key":"k","event":{"a":1},"":null}"#,
            r#"{"é":"😀","key":"k","event":{"a":1}}"#,
            r#"{"key":1,"event":2,"key":"k","event":{"a":1}}"#,
            r#"{"\u006bey":"\u006b","ev\u0065nt":{"a":1},"\ud800":1}"#,
        ] {
            let put = decode(body.as_bytes()).expect(body);
            assert_eq!((&*put.key, put.event), ("k", r#"{"a":1}"#), "{body}");
        }
    }

    #[test]
    fn body_that_is_no_put_is_an_error_with_its_position() {
        let at = |line, column| Position { line, column };
        let long = "k".repeat(MAX_KEY_BYTES + 1);
        let long = format!("{{\"key\":\"{long}\",\"event\":1}}");
        for (body, error) in [
            ("", DecodeError::Empty),
            (" \t\r\n", DecodeError::Empty),
            ("\u{feff}{}", DecodeError::ByteOrderMark),
            ("[]", DecodeError::NotAnObject),
            ("1", DecodeError::NotAnObject),
            ("{}", DecodeError::NoKey),
            (r#"{"event":1}"#, DecodeError::NoKey),
            (r#"{"key":"k"}"#, DecodeError::NoEvent),
            (
                "{\"event\":1,\n \"key\":[]}",
                DecodeError::KeyNotAString(at(2, 8)),
            ),
            (r#"{"key":"","event":1}"#, DecodeError::KeyEmpty(at(1, 8))),
            (
                r#"{"key":"\ud800","event":1}"#,
                DecodeError::KeyNotUnicode(at(1, 8)),
            ),
            (
                &long,
                DecodeError::KeyTooLong {
                    at: at(1, 8),
                    bytes: MAX_KEY_BYTES + 1,
                },
            ),
        ] {
            assert_eq!(decode(body.as_bytes()), Err(error), "{body}");
        }
    }

    #[test]
    fn body_that_is_no_json_is_an_error_with_its_position() {
        for body in [
            "{",
            "{\"key\":\"k\",\"event\":",
            "{\"key\":\"k\",\"event\":1}x",
            "{\"key\":\"k\",}",
            "{\"key\":\"a\nb\",\"event\":1}",
            "{\"key\":\"k\",\"event\":01}",
            "nul",
            "[1,]",
            "{\"key\":\"k\",\"event\":\"\\x\"}",
            "{'key':1}",
            "{\"key\":\"k\",\"event\":NaN}",
        ] {
            match decode(body.as_bytes()) {
                Err(DecodeError::NotJson(reason)) => {
                    assert!(reason.contains("line 1 column"), "{reason}");
                }
                other => panic!("{body}: {other:?}"),
            }
        }
        let place = Position { line: 2, column: 3 };
        assert_eq!(decode(b"{\n \"\xC3\x28"), Err(DecodeError::NotUtf8(place)));
    }

    #[test]
    fn byte_that_is_not_utf8_is_found_anywhere() {
        let long = "x".repeat(200);
        let long = format!(r#"{{"{long}":["{long}",1],"key":"k","event":{{"a\n":true}}}} "#);
        for body in [&long, r#"{"x":1}"#] {
            for (offset, byte) in (0..body.len()).flat_map(|at| [(at, 0x80), (at, 0xFF)]) {
                let mut body = body.as_bytes().to_vec();
                body[offset] = byte;
                let column = offset + 1;
                let error = DecodeError::NotUtf8(Position { line: 1, column });
                assert_eq!(decode(&body), Err(error), "{byte} at {offset}");
            }
        }
    }

    #[test]
    fn nesting_has_no_bound() {
        let event = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        let body = format!(r#"{{"key":"k","x":{event},"event":{event}}}"#);
        assert_eq!(decode(body.as_bytes()).expect("is a put").event, event);
    }

    proptest! {
        #[test]
        fn event_survives_byte_for_byte(event in json(), key in ".{1,64}", space in "[ \t\r\n]{0,3}") {
            let name = serde_json::to_string(&key).expect("serializes");
            let body = format!(r#"{space}{{"event":{space}{event}{space},"key":{name}}}{space}"#);
            let put = decode(body.as_bytes()).expect("is a put");
            prop_assert_eq!(put.event, event);
            prop_assert_eq!(&*put.key, key);
        }

        #[test]
        fn any_bytes_do_not_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&body);
        }

        #[test]
        fn incomplete_body_is_no_put(event in json(), cut in any::<prop::sample::Index>()) {
            let body = format!(r#"{{"key":"k","event":{event}}}"#);
            prop_assert!(decode(&body.as_bytes()[..cut.index(body.len())]).is_err());
        }
    }
}
