//! Compares two JSON texts as events.
//!
//! Exact where a comparison of parsed values is not: numbers are compared to the last digit, and an unpaired
//! surrogate differs from any other text. Takes time and memory in proportion to the texts, at any depth of
//! nesting.

use crate::canonical::canonical_form;

/// The size of a value digest in bytes. Two values of one digest would be acknowledged as one event, so
/// finding them on purpose has to be out of reach: with 256 bits it takes 2^128 tries.
pub const VALUE_DIGEST_BYTES: usize = blake3::OUT_LEN;

/// Whether `left` and `right` are the same text or the same JSON value.
///
/// Values are the same when they differ only in white space, in the order of members, in the
/// escapes of strings or in the spelling of numbers (`1`, `1.0`, `10e-1`, `-0` and `0`, whatever their
/// exponents). Of a member given twice the last counts. Texts that are no JSON are the same only byte
/// for byte.
#[must_use]
pub fn same_event(left: &str, right: &str) -> bool {
    left == right || value_digest(left).is_some_and(|value| value_digest(right) == Some(value))
}

/// The digest of the value of a JSON text: that of every text with the same value, and of no other.
/// `None` for a text that is no JSON.
///
/// It is BLAKE3 over a canonical form, which may change from version to version.
#[must_use]
pub fn value_digest(text: &str) -> Option<[u8; VALUE_DIGEST_BYTES]> {
    let form = canonical_form(text)?;
    Some(*blake3::hash(&form).as_bytes())
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use super::same_event;

    #[test]
    fn same_value_in_another_spelling_is_the_same_event() {
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
            ("1e99999999999999999999", "10e99999999999999999998"),
            ("1e99999999999999999999", "0.1e100000000000000000000"),
            ("0e99999999999999999999", "0"),
        ] {
            assert!(same_event(left, right), "{left} and {right}");
        }
    }

    #[test]
    fn different_value_is_a_different_event() {
        for (left, right) in [
            ("1", "2"),
            ("1", "-1"),
            ("1", "\"1\""),
            ("12345678901234567890", "12345678901234567891"),
            ("0.1", "0.10000000000000000001"),
            ("1e400", "1e401"),
            ("1e99999999999999999999", "1e99999999999999999998"),
            ("1e99999999999999999999", "1e-99999999999999999999"),
            ("{\"a\":[1,2]}", "{\"a\":[12]}"),
            ("{\"a\":{},\"b\":1}", "{\"a\":{\"b\":1}}"),
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
    fn nesting_has_no_bound() {
        let depth = 1_000_000;
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":[2,", "]}]")] {
            let deep = |value: &str| {
                let (open, close) = (open.repeat(depth), close.repeat(depth));
                format!("{open}{value}{close}")
            };
            assert!(same_event(&deep("1"), &deep(" 1.0 ")), "{open}");
            assert!(!same_event(&deep("1"), &deep("2")), "{open}");
            assert!(!same_event(&deep("1"), &deep("1")[1..]), "{open}");
        }
    }

    #[test]
    fn order_of_members_does_not_matter() {
        let long = "x".repeat(100);
        let values = ["1", "[]", "{\"b\":2,\"a\":1}", &format!("\"{long}\"")];
        for name in ["", "a", "aaaaaaaa", "aaaaaaaaa", &long] {
            for value in values {
                let left = format!("{{\"{name}\":{value},\"{name}b\":1,\"{name}\\u0000\":0}}");
                let right = format!("{{\"{name}\\u0000\":0,\"{name}b\":1,\"{name}\":{value}}}");
                assert!(same_event(&left, &right), "{left} and {right}");
                let other = right.replace(":0", ":3");
                assert!(!same_event(&left, &other), "{left} and {other}");
            }
        }
    }

    #[test]
    fn last_of_repeated_members_counts() {
        let repeated: String = (0..1000).map(|number| format!("\"a\":{number},")).collect();
        let left = format!("{{{repeated}\"b\":1,\"a\":2}}");
        assert!(same_event(&left, "{\"a\":2,\"b\":1}"));
        assert!(!same_event(&left, "{\"a\":999,\"b\":1}"));
    }

    #[test]
    fn texts_that_are_no_json_are_compared_by_bytes() {
        for text in [
            "é",
            "",
            "[",
            "]",
            "{\"a\"",
            "\"",
            "\"\\",
            "\"\\u12",
            "-",
            "1e",
            "x\u{1}",
            "[1,]",
            "{\"a\":1,}",
            "{,}",
            "[,1]",
            "{1:1}",
            "nul",
            "truex",
            "\"\t\"",
            "\"\\x\"",
            "1,",
            "[]]",
            ":",
            "\"\\u+123\"",
            "{\"a\":}",
            "{\"a\",\"b\"}",
            "[1:2]",
            "\u{feff}1",
        ] {
            assert!(same_event(text, text), "{text:?}");
            assert!(!same_event(text, "[null]"), "{text:?}");
        }
    }

    /// Each pair was the same once: found by `make fuzz`.
    #[test]
    fn invalid_spelling_of_a_value_is_a_different_event() {
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
