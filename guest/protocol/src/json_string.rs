//! The text of a JSON string, without quotes and escapes.
//!
//! Expects a valid JSON string; of any other it makes some text, and does not panic.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

/// The text of a JSON string, given with its quotes; `None` if it has an unpaired surrogate, and so is no Unicode text.
pub(crate) fn to_text(quoted: &str) -> Option<Cow<'_, str>> {
    match without_escapes(quoted) {
        Some(text) => Some(Cow::Borrowed(text)),
        None => String::from_utf8(with_escapes(quoted)).ok().map(Cow::Owned),
    }
}

/// The text of a JSON string, given with its quotes, as UTF-8 in which an unpaired surrogate has the
/// three bytes that its number would have (WTF-8).
pub(crate) fn unescape(quoted: &str) -> Cow<'_, [u8]> {
    match without_escapes(quoted) {
        Some(text) => Cow::Borrowed(text.as_bytes()),
        None => Cow::Owned(with_escapes(quoted)),
    }
}

/// The text of a JSON string that may have escapes, as above.
fn with_escapes(quoted: &str) -> Vec<u8> {
    let mut rest = inner(quoted);
    let mut text = Vec::with_capacity(rest.len());
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.extend_from_slice(plain.as_bytes());
        let (unescaped, length) = match escape.as_bytes() {
            [b'u', ..] => read_unicode_escape(escape),
            [b'b', ..] => (0x08, 1),
            [b'f', ..] => (0x0C, 1),
            [b'n', ..] => (u32::from(b'\n'), 1),
            [b'r', ..] => (u32::from(b'\r'), 1),
            [b't', ..] => (u32::from(b'\t'), 1),
            [other, ..] => (u32::from(*other), 1),
            [] => break,
        };
        push_code_point(&mut text, unescaped);
        rest = escape.get(length..).unwrap_or_default();
    }
    text.extend_from_slice(rest.as_bytes());
    text
}

/// The text of a JSON string that has no escapes.
fn without_escapes(quoted: &str) -> Option<&str> {
    let text = inner(quoted);
    // Not `str::contains`, which takes longer for short texts, such as keys and names.
    let has_escapes = text.bytes().any(|byte| byte == b'\\');
    (!has_escapes).then_some(text)
}

/// What is between the quotes.
fn inner(quoted: &str) -> &str {
    let unopened = quoted.strip_prefix('"').unwrap_or(quoted);
    unopened.strip_suffix('"').unwrap_or_default()
}

/// Reads `uXXXX`, or `uXXXX\uXXXX` where the two are a pair of surrogates: the code point and how
/// many bytes it took.
fn read_unicode_escape(escape: &str) -> (u32, usize) {
    let unit = |start: usize| {
        let digits = escape.get(start..start + 4)?;
        u32::from_str_radix(digits, 16).ok()
    };
    let high = unit(1).unwrap_or_default();
    if (0xD800..0xDC00).contains(&high)
        && escape.get(5..7) == Some("\\u")
        && let Some(low @ 0xDC00..0xE000) = unit(7)
    {
        return (0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00), 11);
    }
    (high, 5)
}

/// Appends a code point as WTF-8.
pub(crate) fn push_code_point(text: &mut Vec<u8>, code_point: u32) {
    match char::from_u32(code_point) {
        Some(char) => text.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        None => text.extend_from_slice(&[
            0xED,
            0x80 | ((code_point >> 6) & 0x3F) as u8,
            0x80 | (code_point & 0x3F) as u8,
        ]),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::unescape;

    #[test]
    fn unpaired_surrogate_is_wtf_8() {
        for (quoted, text) in [
            (r#""\ud800""#, b"\xED\xA0\x80".as_slice()),
            (r#""\udbff""#, b"\xED\xAF\xBF"),
            (r#""\udc00x""#, b"\xED\xB0\x80x"),
            (r#""\ud800\ud800\udc00""#, b"\xED\xA0\x80\xF0\x90\x80\x80"),
            (r#""\ud83d\uDE00""#, "😀".as_bytes()),
            (r#""\ud83d\n""#, b"\xED\xA0\xBD\n"),
        ] {
            assert_eq!(&*unescape(quoted), text, "{quoted}");
        }
    }

    proptest! {
        #[test]
        fn escaped_text_comes_back(text in any::<String>()) {
            let quoted = serde_json::to_string(&text).expect("serializes");
            prop_assert_eq!(&*unescape(&quoted), text.as_bytes());
        }

        #[test]
        fn valid_string_is_read_as_by_serde_json(
            quoted in r#""([^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}){0,12}""#,
        ) {
            let text = core::str::from_utf8(&unescape(&quoted)).ok().map(ToOwned::to_owned);
            let expected = serde_json::from_str::<String>(&quoted).ok();
            prop_assert_eq!(text, expected);
        }

        #[test]
        fn invalid_string_does_not_panic(text in r#"["\\u0-9a-fé]{0,12}"#) {
            unescape(&text);
        }
    }
}
