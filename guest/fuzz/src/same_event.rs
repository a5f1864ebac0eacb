//! Compares `same_event` with the equality of `serde_json::Value`.
//!
//! Numbers are made comparable first: `Value` keeps them as they were spelled.

use std::{mem, str};

use alldata_peer_protocol::same_event::same_event;
use serde_json::Value;

use crate::oracle;

/// The separator of two texts in an input: a byte that no text in UTF-8 has.
const SEPARATOR: u8 = 0xFF;

/// Asserts that `same_event` agrees with the oracle on the texts in an input, and on the first in other
/// spellings and without one of its characters.
///
/// # Panics
///
/// If it does not.
pub fn check(input: &[u8]) {
    let mut texts = input.splitn(2, |byte| *byte == SEPARATOR);
    let mut next = || str::from_utf8(texts.next().unwrap_or_default());
    let (Ok(left), Ok(right)) = (next(), next()) else {
        return;
    };
    assert!(same_event(left, left));
    check_pair(left, right);
    for other in [
        with_escapes(left),
        with_spaces(left),
        with_exponents(left),
        without_one(left, right.len()),
    ] {
        check_pair(left, &other);
    }
    if let Ok(value) = serde_json::from_str::<Value>(left) {
        check_pair(left, &value.to_string());
    }
}

fn check_pair(left: &str, right: &str) {
    if !oracle::is_fit(left) || !oracle::is_fit(right) {
        return;
    }
    let said = same_event(left, right);
    assert_eq!(said, same_event(right, left), "{left:?} and {right:?}");
    let expected = oracle::judge(&[left, right], |mut values| {
        values.iter_mut().flatten().for_each(normalize);
        left == right || values[0].is_some() && values[0] == values[1]
    });
    assert_eq!(said, expected, "{left:?} and {right:?}");
}

/// Replaces each number by a text of its value; strings all have a mark, which these texts lack.
fn normalize(value: &mut Value) {
    match value {
        Value::Number(number) => *value = Value::String(normal_number(&number.to_string())),
        Value::Array(elements) => elements.iter_mut().for_each(normalize),
        Value::Object(members) => members.values_mut().for_each(normalize),
        _ => {}
    }
}

/// The canonical spelling of a number: an integer without zeros at its ends, times a power of ten.
fn normal_number(number: &str) -> String {
    let (sign, unsigned) = match number.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", number),
    };
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let shortened = digits.trim_end_matches('0');
    let shift = (digits.len() - shortened.len()) as i128 - fraction.len() as i128;
    match shortened.trim_start_matches('0') {
        "" => "0".to_owned(),
        significant => format!("{sign}{significant}e{}", sum(exponent, shift)),
    }
}

/// The sum of an integer of any length and a short one.
fn sum(number: &str, addend: i128) -> String {
    /// The number of digits that are added at once.
    const DIGITS: usize = 30;
    let (is_negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number.trim_start_matches('+')),
    };
    let digits = digits.trim_start_matches('0');
    let sign = if is_negative { -1 } else { 1 };
    let (high, low) = digits.split_at(digits.len().saturating_sub(DIGITS));
    let low: i128 = format!("0{low}").parse().expect("fits");
    if high.is_empty() {
        return (sign * low + addend).to_string();
    }
    let base = 10_i128.pow(30);
    let low = low + sign * addend;
    let high = sum(high, low.div_euclid(base));
    let low = low.rem_euclid(base);
    let size = format!("{high}{low:030}");
    let sign = if is_negative { "-" } else { "" };
    format!("{sign}{}", size.trim_start_matches('0'))
}

/// The text with every character of its strings escaped.
fn with_escapes(text: &str) -> String {
    let escape = |char: char| {
        let mut units = [0; 2];
        let units = char.encode_utf16(&mut units).iter();
        units.map(|unit| format!("\\u{unit:04X}")).collect()
    };
    respelled(text, |char, is_string| match is_string {
        true => escape(char),
        false => char.to_string(),
    })
}

/// The text with white space around all tokens.
fn with_spaces(text: &str) -> String {
    respelled(text, |char, is_string| match char {
        '[' | ']' | '{' | '}' | ':' | ',' if !is_string => format!(" {char}\r\n\t"),
        _ => char.to_string(),
    })
}

/// The text with its numbers in another spelling, if they have no exponent.
fn with_exponents(text: &str) -> String {
    let mut number = String::new();
    respelled(&format!("{text} "), |char, is_string| {
        if !is_string && matches!(char, '-' | '+' | '.' | '0'..='9' | 'e' | 'E') {
            number.push(char);
            return char.to_string();
        }
        let number = mem::take(&mut number);
        let tail = match () {
            () if number.is_empty() || number.contains(['e', 'E']) => "",
            () if number.contains('.') => "0e+00",
            () => "0.00E-1",
        };
        format!("{tail}{char}")
    })
}

/// The text without one of its characters: the one at this index, modulo its length.
fn without_one(text: &str, place: usize) -> String {
    let missing = place % text.chars().count().max(1);
    let rest = text.chars().enumerate();
    let rest = rest.filter(|(place, _)| *place != missing);
    rest.map(|(_, char)| char).collect()
}

/// The text with each character replaced, except for quotes and escapes.
fn respelled(text: &str, mut spell: impl FnMut(char, bool) -> String) -> String {
    let (mut is_string, mut is_escape) = (false, false);
    text.chars()
        .map(|char| {
            if is_escape || char == '\\' {
                is_escape = !is_escape;
                return char.to_string();
            }
            if char == '"' {
                is_string = !is_string;
                return char.to_string();
            }
            spell(char, is_string)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{check, check_pair, normal_number};
    use super::{with_escapes, with_exponents, with_spaces, without_one};

    #[test]
    fn number_has_one_spelling() {
        for (number, normal) in [
            ("-0.0e7", "0"),
            ("0e99999999999999999999", "0"),
            ("100", "1e2"),
            ("1e+2", "1e2"),
            ("-0.00120", "-12e-4"),
            ("10e9223372036854775807", "1e9223372036854775808"),
            (
                "10e+99999999999999999999999999999999999999999",
                "1e100000000000000000000000000000000000000000",
            ),
            (
                "0.1e100000000000000000000000000000000000000000",
                "1e99999999999999999999999999999999999999999",
            ),
            (
                "10e-100000000000000000000000000000000000000000",
                "1e-99999999999999999999999999999999999999999",
            ),
        ] {
            assert_eq!(normal_number(number), normal, "{number}");
        }
    }

    #[test]
    fn other_spelling_has_the_same_value() {
        assert_eq!(with_escapes("[\"a\\n\",1]"), "[\"\\u0061\\n\",1]");
        assert_eq!(with_spaces("[\",\"]"), " [\r\n\t\",\" ]\r\n\t");
        assert_eq!(without_one("-éa", 4), "-a");
        assert_eq!(without_one("", 4), "");
        assert_eq!(with_exponents("[1,-2.5,3e1]"), "[10.00E-1,-2.50e+00,3e1] ");
    }

    #[test]
    fn agreement_with_the_oracle_passes() {
        for (left, right) in [
            (
                "{\"a\":1,\"b\":[\"\\ud800\"]}",
                "{\"b\":[\"\\uD800\"],\"a\":1.0}",
            ),
            ("1e99999999999999999999", "10E+0099999999999999999998"),
            ("0.10e-99999999999999999999", "1e-100000000000000000000"),
            ("\"\\ud800\"", "\"\\ud801\""),
            ("[", "["),
        ] {
            check_pair(left, right);
            check(
                [left.as_bytes(), b"\xFF", right.as_bytes()]
                    .concat()
                    .as_slice(),
            );
        }
        check(b"\xFE\xFF1");
        check(b"1");
    }

    #[test]
    fn every_seed_passes() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/same_event");
        for seed in fs::read_dir(seeds).expect("lists") {
            let seed = seed.expect("lists").path();
            check(&fs::read(&seed).expect("reads"));
        }
    }
}
