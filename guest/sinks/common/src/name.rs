//! Names for keys, for stores that do not accept every character. Two keys never have the same name.

use alloc::string::String;

/// The digits of an escape.
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// `key` with each byte that is not plain as `escape` and two hexadecimal digits.
///
/// Names of different keys differ as long as `escape` itself is not plain.
pub fn escape(key: &str, escape: char, is_plain: fn(u8) -> bool) -> String {
    let mut name = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii() && is_plain(byte) {
            name.push(char::from(byte));
        } else {
            name.push(escape);
            name.push(char::from(DIGITS[usize::from(byte >> 4)]));
            name.push(char::from(DIGITS[usize::from(byte & 0xF)]));
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn bytes_that_are_not_plain_are_escaped() {
        let name = escape("20130927T0/é%", '%', |byte| byte.is_ascii_digit());
        assert_eq!(name, "20130927%540%2f%c3%a9%25");
    }

    #[test]
    fn bytes_beyond_ascii_are_escaped() {
        assert_eq!(escape("é", '=', |_| true), "=c3=a9");
    }
}
