//! Compares `decode` with `serde_json::Value`.
//!
//! Both must agree on every body. [`oracle`](crate::oracle) makes `Value` exact.

use std::str;

use alldata_peer_protocol::client::put_body;
use alldata_peer_protocol::decode::{DecodeError, MAX_KEY_BYTES, Position, Put, decode};
use serde_json::Value;

use crate::oracle;

/// The kind of a body, without positions.
#[derive(Debug, PartialEq)]
enum Kind {
    Empty,
    ByteOrderMark,
    NotUtf8,
    NotJson,
    NotAnObject,
    NoKey,
    KeyNotAString,
    KeyNotUnicode,
    KeyEmpty,
    KeyTooLong(usize),
    NoEvent,
    Put(String),
}

/// Asserts that `decode` and the oracle agree on a body.
///
/// # Panics
///
/// If they disagree.
pub fn check(body: &[u8]) {
    let decoded = decode(body);
    let event = decoded.as_ref().ok().map(|put| put.event);
    let kind = kind_of(&decoded);
    let Ok(text) = str::from_utf8(body) else {
        let expected = match body {
            [0xEF, 0xBB, 0xBF, ..] => Kind::ByteOrderMark,
            _ => Kind::NotUtf8,
        };
        assert_eq!(kind, expected);
        return check_place(body, &decoded);
    };
    if !oracle::is_fit(text) {
        return;
    }
    oracle::judge(&[text, event.unwrap_or_default()], |values| {
        let [body, event] = <[_; 2]>::try_from(values).expect("as many as were asked for");
        let (expected, expected_event) = expected(text, body);
        assert_eq!(kind, expected);
        // The oracle reads the event by itself, so it is valid JSON and the value of the member.
        assert_eq!(event, expected_event);
    });
    check_place(body, &decoded);
    if let Ok(put) = &decoded {
        check_put(text, put);
    }
}

/// The kind of a body, and its event if it has one.
fn expected(text: &str, value: Option<Value>) -> (Kind, Option<Value>) {
    let is_space = |char| matches!(char, ' ' | '\t' | '\n' | '\r');
    let kind = match value {
        None if text.starts_with('\u{FEFF}') => Kind::ByteOrderMark,
        None if text.chars().all(is_space) => Kind::Empty,
        None => Kind::NotJson,
        Some(Value::Object(mut members)) => {
            let key = members.remove(&oracle::name("key"));
            let event = members.remove(&oracle::name("event"));
            return match (kind_of_key(key), event) {
                (Ok(key), Some(event)) => (Kind::Put(key), Some(event)),
                (Ok(_), None) => (Kind::NoEvent, None),
                (Err(kind), _) => (kind, None),
            };
        }
        Some(_) => Kind::NotAnObject,
    };
    (kind, None)
}

fn kind_of_key(key: Option<Value>) -> Result<String, Kind> {
    match key {
        None => Err(Kind::NoKey),
        Some(Value::String(key)) => match oracle::text(&key) {
            None => Err(Kind::KeyNotUnicode),
            Some("") => Err(Kind::KeyEmpty),
            Some(key) if key.len() > MAX_KEY_BYTES => Err(Kind::KeyTooLong(key.len())),
            Some(key) => Ok(key.to_owned()),
        },
        Some(_) => Err(Kind::KeyNotAString),
    }
}

fn kind_of(decoded: &Result<Put<'_>, DecodeError>) -> Kind {
    match decoded {
        Ok(put) => Kind::Put(put.key.clone().into_owned()),
        Err(error) => match error {
            DecodeError::Empty => Kind::Empty,
            DecodeError::ByteOrderMark => Kind::ByteOrderMark,
            DecodeError::NotUtf8(_) => Kind::NotUtf8,
            DecodeError::NotJson(_) => Kind::NotJson,
            DecodeError::NotAnObject => Kind::NotAnObject,
            DecodeError::NoKey => Kind::NoKey,
            DecodeError::KeyNotAString(_) => Kind::KeyNotAString,
            DecodeError::KeyNotUnicode(_) => Kind::KeyNotUnicode,
            DecodeError::KeyEmpty(_) => Kind::KeyEmpty,
            DecodeError::KeyTooLong { bytes, .. } => Kind::KeyTooLong(*bytes),
            DecodeError::NoEvent => Kind::NoEvent,
        },
    }
}

/// Asserts that the position in an error exists and is that of the error.
fn check_place(body: &[u8], decoded: &Result<Put<'_>, DecodeError>) {
    let Err(error) = decoded else { return };
    let sentence = error.to_string();
    assert!(sentence.ends_with('.'), "{sentence:?}");
    assert!(!sentence.contains('\n'), "{sentence:?}");
    match error {
        DecodeError::NotUtf8(at) => {
            let valid = str::from_utf8(body).map_or_else(|error| error.valid_up_to(), str::len);
            assert_eq!(offset(body, *at), valid);
        }
        DecodeError::KeyNotAString(at) => {
            let first = body[offset(body, *at)];
            assert!(matches!(first, b'-' | b'0'..=b'9' | b'a'..=b'z' | b'[' | b'{'));
        }
        DecodeError::KeyEmpty(at) => assert_eq!(body[offset(body, *at)..][..2], *b"\"\""),
        DecodeError::KeyNotUnicode(at) | DecodeError::KeyTooLong { at, .. } => {
            assert_eq!(body[offset(body, *at)], b'"');
        }
        DecodeError::NotJson(reason) => {
            let (_, place) = reason.rsplit_once(" at line ").expect("has a place");
            let (line, column) = place.split_once(" column ").expect("has a column");
            let number = |digits: &str| digits.parse::<usize>().expect("is a number");
            let lines = body.split(|byte| *byte == b'\n');
            let line = lines.clone().nth(number(line) - 1).expect("is a line");
            // The position after the end of a line.
            assert!(number(column) <= line.len() + 1, "{reason}");
        }
        _ => {}
    }
}

/// The offset of a position in the body.
fn offset(body: &[u8], position: Position) -> usize {
    let lines = body.split(|byte| *byte == b'\n').take(position.line - 1);
    let before: usize = lines.map(|line| line.len() + 1).sum();
    before + position.column - 1
}

/// Asserts the guarantees of a put.
fn check_put(body: &str, put: &Put<'_>) {
    assert!((1..=MAX_KEY_BYTES).contains(&put.key.len()));
    assert!(!put.event.starts_with([' ', '\t', '\n', '\r']));
    assert!(!put.event.ends_with([' ', '\t', '\n', '\r']));
    let within = body.as_bytes().as_ptr_range();
    let event = put.event.as_bytes().as_ptr_range();
    assert!(within.start <= event.start && event.end <= within.end);
    let sent_on = put_body(&put.key, put.event);
    assert_eq!(decode(sent_on.as_bytes()).as_ref(), Ok(put));
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Kind, check, expected};
    use crate::oracle;

    fn kind(body: &str) -> Kind {
        oracle::judge(&[body], |mut values| expected(body, values.remove(0)).0)
    }

    #[test]
    fn oracle_has_every_kind_of_body() {
        let long = format!("{{\"key\":\"{}\",\"event\":1}}", "é".repeat(513));
        for (body, expected) in [
            (" \r\n\t", Kind::Empty),
            ("\u{FEFF}{}", Kind::ByteOrderMark),
            ("{\"key\":\"k\",\"event\":}", Kind::NotJson),
            ("[]", Kind::NotAnObject),
            ("{\"_key\":1}", Kind::NoKey),
            ("{\"key\":null}", Kind::KeyNotAString),
            ("{\"key\":\"\\ud800\"}", Kind::KeyNotUnicode),
            ("{\"key\":\"\"}", Kind::KeyEmpty),
            (&long, Kind::KeyTooLong(1026)),
            ("{\"key\":\"k\"}", Kind::NoEvent),
            (
                "{\"key\":1,\"event\":1,\"k\\u0065y\":\"k\"}",
                Kind::Put("k".to_owned()),
            ),
        ] {
            assert_eq!(kind(body), expected, "{body}");
            check(body.as_bytes());
        }
        check(b"{\n \"\xC3\x28");
        check(b"\xEF\xBB\xBF\xFF");
    }

    #[test]
    fn every_seed_passes() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/decode");
        for seed in fs::read_dir(seeds).expect("lists") {
            let seed = seed.expect("lists").path();
            check(&fs::read(&seed).expect("reads"));
        }
    }
}
