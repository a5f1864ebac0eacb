//! `serde_json::Value` as an oracle of JSON texts and their values.
//!
//! Works around the inexact parts of `Value`: it refuses unpaired surrogates, which the grammar of RFC 8259
//! allows; it gives a special meaning to objects whose first name is one of two that serde_json reserves; it
//! recurses. Numbers are exact, by the feature `arbitrary_precision`. Does not call the code under test.

use std::thread;

use serde::Deserialize as _;
use serde_json::{Deserializer, Value};

/// The largest text in bytes. It also bounds the nesting, and so the stack.
pub const MAX_BYTES: usize = 16 * 1024;

/// The deepest nesting that is read on the stack of the caller.
const SHALLOW: usize = 100;

/// A stack for the deepest text, at 16 KiB for each level: more than twice the need of a build with all checks.
/// Unused parts take no memory.
const STACK_BYTES: usize = MAX_BYTES * 16 * 1024;

/// Prefixes every string of the text that is parsed, so that no name is one that serde_json reserves.
const STRING_MARK: char = '_';

/// Stands, with a second character, for an unpaired surrogate.
const SURROGATE_MARK: char = '\u{F0000}';

/// Calls `judge` with the value of each text, or `None` if it is not JSON.
///
/// In the values every string and every name begins with a mark: [`name`] adds it, [`text`] removes it.
pub fn judge<T: Send>(texts: &[&str], judge: impl FnOnce(Vec<Option<Value>>) -> T + Send) -> T {
    let depth = texts.iter().map(|text| most_depth(text)).max();
    let parse_and_judge = || judge(texts.iter().map(|text| parse(text)).collect());
    if depth.unwrap_or_default() <= SHALLOW {
        return parse_and_judge();
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK_BYTES);
        let judging = thread.spawn_scoped(scope, parse_and_judge);
        let judging = judging.expect("the system has a thread and its stack");
        judging.join().expect("panics end the process before this")
    })
}

/// Whether a text is suitable for the oracle: of a bounded size, and without the character that stands for a
/// surrogate.
#[must_use]
pub fn is_fit(text: &str) -> bool {
    let escape = "\\udb80\\udc00";
    text.len() <= MAX_BYTES
        && !text.contains(SURROGATE_MARK)
        && !text.to_ascii_lowercase().contains(escape)
}

/// A name as it is in a value.
#[must_use]
pub fn name(name: &str) -> String {
    format!("{STRING_MARK}{name}")
}

/// The text of a string in a value, or `None` if it has an unpaired surrogate.
#[must_use]
pub fn text(string: &str) -> Option<&str> {
    let text = string.strip_prefix(STRING_MARK);
    let text = text.expect("every string has the mark");
    (!text.contains(SURROGATE_MARK)).then_some(text)
}

fn parse(text: &str) -> Option<Value> {
    let marked = mark(text);
    let mut parser = Deserializer::from_str(&marked);
    parser.disable_recursion_limit();
    let value = Value::deserialize(&mut parser).ok()?;
    parser.end().is_ok().then_some(value)
}

/// The text with a mark before each string and in place of each unpaired surrogate. It is JSON if the text is:
/// only strings are changed, to other valid strings.
fn mark(text: &str) -> String {
    let mut marked = String::with_capacity(text.len() * 2);
    let mut is_string = false;
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        let length = match char {
            '\\' => escape_length(rest),
            _ => char.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        match unpaired_surrogate(token) {
            Some(number) => marked.extend([SURROGATE_MARK, stand_in(number)]),
            None => marked.push_str(token),
        }
        if token == "\"" {
            is_string = !is_string;
            marked.extend(is_string.then_some(STRING_MARK));
        }
    }
    marked
}

/// The length of the escape at the start of the text; a pair of surrogates is one.
fn escape_length(text: &str) -> usize {
    let is_high = |unit| (0xD800..0xDC00).contains(&unit);
    let is_low = |unit| (0xDC00..0xE000).contains(&unit);
    match unit(text) {
        Some(high) if is_high(high) && unit(&text[6..]).is_some_and(is_low) => 12,
        Some(_) => 6,
        None => text.chars().take(2).map(char::len_utf8).sum(),
    }
}

/// The number in an escape of the form `\uXXXX` at the start of the text.
fn unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u32::from_str_radix(digits, 16).ok())?
}

fn unpaired_surrogate(token: &str) -> Option<u32> {
    let number = unit(token).filter(|_| token.len() == 6)?;
    (0xD800..0xE000).contains(&number).then_some(number)
}

/// A character for each surrogate, which occurs only after a mark.
fn stand_in(surrogate: u32) -> char {
    let number = u32::from(SURROGATE_MARK) + surrogate - 0xD800;
    char::from_u32(number).expect("is in the plane of the mark")
}

/// A lower bound of the nesting of a text.
fn most_depth(text: &str) -> usize {
    text.bytes()
        .filter(|byte| matches!(byte, b'[' | b'{'))
        .count()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{MAX_BYTES, judge, mark, text};

    fn value(text: &str) -> Option<Value> {
        judge(&[text], |mut values| values.remove(0))
    }

    #[test]
    fn invalid_json_is_none() {
        for text in [
            "",
            "\"",
            "\"\\",
            "\"\\u12\"",
            "\"\\ud80\"",
            "\\ud800",
            "[1,]",
            "{\"a\" 1}",
            "\"\\x\"",
            "\"\t\"",
            "01",
            "1 2",
            "\"\"\"",
        ] {
            assert_eq!(value(text), None, "{text:?}");
        }
    }

    #[test]
    fn json_is_its_value() {
        for (text, expected) in [
            (" [1e400] ", "[1e400]"),
            ("{\"a\":\"\\\"b\"}", "{\"_a\":\"_\\\"b\"}"),
            (
                "{\"$serde_json::private::Number\":[]}",
                "{\"_$serde_json::private::Number\":[]}",
            ),
            ("\"\\ud83d\\uDE00\"", "\"_😀\""),
        ] {
            let expected: Value = serde_json::from_str(expected).expect("is JSON");
            assert_eq!(value(text), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn unpaired_surrogate_is_a_distinct_character() {
        assert_eq!(mark("\"\\uDbffx\""), "\"_\u{F0000}\u{F03FF}x\"");
        assert_eq!(
            mark("\"\\ud800\\ud800\\udc00\\udfff\""),
            "\"_\u{F0000}\u{F0000}\\ud800\\udc00\u{F0000}\u{F07FF}\""
        );
        let Some(Value::String(string)) = value("\"\\udc00\"") else {
            panic!("is a string");
        };
        assert_eq!(text(&string), None);
        assert_eq!(text("_é"), Some("é"));
    }

    #[test]
    fn deepest_text_fits_the_stack() {
        let half = MAX_BYTES / 2;
        let text = format!("{}{}", "[".repeat(half), "]".repeat(half));
        assert!(judge(&[&text], |values| values[0].is_some()));
        assert_eq!(value("[]"), Some(json!([])));
    }
}
