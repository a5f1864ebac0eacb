//! Whether two JSON texts are the same event.
//!
//! Exact where comparing parsed values is not: numbers count to the last digit, and an unpaired
//! surrogate is unlike any other text. Never recurses, so that no nesting overflows a stack, and
//! takes time and memory in proportion to the texts.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::iter;

use serde::de::IgnoredAny;

use crate::json_string::unescape;

/// How deep a value may be nested for anything but its bytes to be compared: far beyond real
/// events, and few enough that what is open fits a megabyte.
const MAX_DEPTH: usize = 10_000;

/// Whether `left` and `right` are the same text or the same JSON value.
///
/// Values are the same when they differ only in white space, in the order of members, in the
/// escapes of strings or in the spelling of numbers (`1`, `1.0`, `10e-1`). Of a member given
/// twice the last counts. Texts that are no JSON are the same only byte for byte.
#[must_use]
pub fn same_event(left: &str, right: &str) -> bool {
    left == right || is_one_value(left, right) && is_json(left) && is_json(right)
}

/// Whether two texts are the same value, if they are JSON: what keeps values apart is not read.
fn is_one_value(left: &str, right: &str) -> bool {
    fingerprint(left).is_some_and(|value| Some(value) == fingerprint(right))
}

/// Whether a text is JSON, however deep it is nested.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// A hash that equal values share and different ones do not. 128 bits are enough: nobody finds
/// two values of one hash by chance, and finding them on purpose costs 2^64 tries and gains nothing.
type Fingerprint = [u8; 16];

/// An array or object whose end has not been read yet.
enum Open {
    /// The fingerprint of the elements so far.
    Array(Fingerprint),
    Object {
        /// Name and value of each member so far.
        members: Vec<(Fingerprint, Fingerprint)>,
        /// The name whose value comes next.
        name: Option<Fingerprint>,
    },
}

/// The fingerprint of a JSON text, from the inside out; `None` where it is nested too deep.
fn fingerprint(text: &str) -> Option<Fingerprint> {
    let mut rest = text;
    let mut open: Vec<Open> = Vec::new();
    while let Some(first) = rest.bytes().next() {
        let (token, after) = rest.split_at_checked(token_length(rest))?;
        rest = after;
        let value = match first {
            b'[' => {
                open.push(Open::Array(hash(b"[", [])));
                None
            }
            b'{' => {
                open.push(Open::object());
                None
            }
            b']' | b'}' => Some(open.pop()?.close()),
            b'"' => Some(hash(b"\"", [&*unescape(token)])),
            b'-' | b'0'..=b'9' => Some(hash_number(token)),
            b't' | b'f' | b'n' => Some(hash(token.as_bytes(), [])),
            // These only keep apart what tells itself apart.
            b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => None,
            _ => return None,
        };
        if open.len() > MAX_DEPTH {
            return None;
        }
        match (value, open.last_mut()) {
            (Some(value), Some(container)) => container.push(value),
            (Some(value), None) => return Some(value),
            (None, _) => {}
        }
    }
    None
}

/// How many bytes the token at the start of `text` has, which is not empty.
fn token_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let end = match bytes[0] {
        b'"' => {
            let mut escaped = false;
            let quote = bytes[1..].iter().position(|byte| {
                let ends = *byte == b'"' && !escaped;
                escaped = *byte == b'\\' && !escaped;
                ends
            });
            quote.map(|quote| quote + 2)
        }
        b'-' | b'0'..=b'9' | b'a'..=b'z' => bytes.iter().position(
            |byte| !matches!(byte, b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'E'),
        ),
        _ => Some(1),
    };
    end.unwrap_or(bytes.len())
}

impl Open {
    fn object() -> Self {
        Self::Object {
            members: Vec::new(),
            name: None,
        }
    }

    fn push(&mut self, value: Fingerprint) {
        match self {
            Self::Array(elements) => *elements = hash(b",", [elements.as_slice(), &value]),
            Self::Object { members, name } => match name.take() {
                Some(name) => members.push((name, value)),
                None => *name = Some(value),
            },
        }
    }

    fn close(self) -> Fingerprint {
        match self {
            Self::Array(elements) => elements,
            Self::Object { mut members, .. } => {
                // Stable, so that of a name given twice the last is the last of its run.
                members.sort_by_key(|(name, _)| *name);
                let nexts = members.iter().skip(1).map(|(name, _)| Some(name));
                let last_of_name = members
                    .iter()
                    .zip(nexts.chain(iter::once(None)))
                    .filter(|((name, _), next)| Some(name) != *next);
                hash(
                    b"{",
                    last_of_name.flat_map(|((name, value), _)| [name.as_slice(), value]),
                )
            }
        }
    }
}

/// Hashes the parts of a value behind a mark of its kind. The parts are of one length, or one.
fn hash<'a>(kind: &[u8], parts: impl IntoIterator<Item = &'a [u8]>) -> Fingerprint {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind);
    for part in parts {
        hasher.update(part);
    }
    let mut fingerprint = Fingerprint::default();
    hasher.finalize_xof().fill(&mut fingerprint);
    fingerprint
}

/// A number by its value, or by its text where its exponent is beyond reckoning.
fn hash_number(text: &str) -> Fingerprint {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, power) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let Ok(power) = power.parse::<i64>() else {
        return hash(b"n", [text.as_bytes()]);
    };
    let all = [whole, fraction].concat();
    let significant = all.trim_start_matches('0');
    // The value is 0.`digits` times ten to the `exponent`.
    let point = whole.len() as i128 - (all.len() - significant.len()) as i128;
    let exponent = i128::from(power) + point;
    let digits = significant.trim_end_matches('0');
    if digits.is_empty() {
        return hash(b"0", []);
    }
    let sign = if text.starts_with('-') { "-" } else { "+" };
    hash(
        sign.as_bytes(),
        [digits.as_bytes(), b"e", exponent.to_string().as_bytes()],
    )
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::same_event;

    #[test]
    fn the_same_value_in_another_spelling_is_the_same_event() {
        for (left, right) in [
            (
                "{\"a\":1,\"b\":[true,null]}",
                " {\"b\" : [ true ,\nnull ], \"a\": 1 } ",
            ),
            ("1", "1.0"),
            ("1", "10e-1"),
            ("1", "0.1E+1"),
            ("100", "1e2"),
            ("0.00120", "12e-4"),
            ("0", "-0.0e7"),
            ("\"A\\n/\"", "\"\\u0041\\u000a\\/\""),
            ("\"😀\"", "\"\\ud83d\\uDE00\""),
            ("{\"a\":1,\"a\":2}", "{\"a\":2}"),
            ("{\"\\u0061\":2}", "{\"a\":2}"),
            ("1e99999999999999999999", "1e99999999999999999999"),
        ] {
            assert!(same_event(left, right), "{left} and {right}");
        }
    }

    #[test]
    fn a_different_value_is_a_different_event() {
        for (left, right) in [
            ("1", "2"),
            ("1", "-1"),
            ("1", "\"1\""),
            ("12345678901234567890", "12345678901234567891"),
            ("0.1", "0.10000000000000000001"),
            ("1e400", "1e401"),
            ("1e99999999999999999999", "1e99999999999999999998"),
            ("[1,2]", "[2,1]"),
            ("[[1],2]", "[[1,2]]"),
            ("[]", "{}"),
            ("[]", "[[]]"),
            ("[\"a\",\"b\"]", "{\"a\":\"b\"}"),
            ("[1,2]", "[12]"),
            ("{\"a\":1,\"a\":2}", "{\"a\":1}"),
            ("{\"a\":1}", "{\"a\":1,\"b\":1}"),
            ("\"\\ud800\"", "\"\\ud801\""),
            ("\"\\ud800\"", "\"\\ufffd\""),
            ("\"\\\\\"", "\"\\\"\""),
            ("true", "false"),
            ("null", "\"null\""),
        ] {
            assert!(!same_event(left, right), "{left} and {right}");
        }
    }

    #[test]
    fn beyond_the_depth_only_bytes_count() {
        let deep = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
        assert!(same_event(&deep, &deep));
        assert!(!same_event(&deep, &format!(" {deep}")));
    }

    #[test]
    fn of_what_is_no_json_only_bytes_count() {
        for text in [
            "é", "", "[", "]", "{\"a\"", "\"", "\"\\", "\"\\u12", "-", "1e", "x\u{1}",
        ] {
            assert!(same_event(text, text), "{text:?}");
            assert!(!same_event(text, "[null]"), "{text:?}");
        }
    }

    /// Each pair was the same once: found by `make fuzz`.
    #[test]
    fn what_reads_like_the_same_value_but_is_no_json_is_not_the_same() {
        for (left, right) in [
            ("\"\\", "\"\\u12"),
            ("[1 2]", "[1,2]"),
            ("{\"a\" 1}", "{\"a\":1}"),
            ("1 2", "1"),
            ("[1}", "[1]"),
            ("01", "1"),
        ] {
            assert!(!same_event(left, right), "{left} and {right}");
            assert!(!same_event(right, left), "{right} and {left}");
        }
    }
}
