//! Numbers of JSON, exact to the last digit: neither they nor their exponents are ever rounded.

use alloc::vec::Vec;

/// How many digits surely fit an `i64`, also with the length of a text added to them.
const MAX_SMALL_DIGITS: usize = 18;

/// A number in the parts of its text.
#[derive(Debug)]
pub(crate) struct Number<'a> {
    is_negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent_is_negative: bool,
    /// Empty where there is none.
    exponent: &'a [u8],
}

impl<'a> Number<'a> {
    /// Reads the number that a text begins with. Returns it and its length in bytes.
    #[inline]
    pub(crate) fn read(text: &'a [u8]) -> Option<(Self, usize)> {
        let mut rest = text;
        let is_negative = skip(&mut rest, b"-");
        let whole = digits(&mut rest)?;
        if whole.len() > 1 && whole[0] == b'0' {
            return None;
        }
        let has_fraction = skip(&mut rest, b".");
        let fraction = if has_fraction {
            digits(&mut rest)?
        } else {
            &[]
        };
        let mut exponent_is_negative = false;
        let mut exponent = &[][..];
        if skip(&mut rest, b"eE") {
            exponent_is_negative = rest.first() == Some(&b'-');
            skip(&mut rest, b"+-");
            exponent = digits(&mut rest)?;
        }
        let number = Self {
            is_negative,
            whole,
            fraction,
            exponent_is_negative,
            exponent,
        };
        Some((number, text.len() - rest.len()))
    }

    /// Writes the one spelling of the number's value: `-` where it is negative, its digits without
    /// zeros at either end, `e` and the power of ten that they are multiplied by unless that is 0, and
    /// `;`. Zero has no sign and no power.
    #[inline]
    pub(crate) fn write(&self, form: &mut Vec<u8>) {
        let start = form.len();
        if self.is_negative {
            form.push(b'-');
        }
        let digits_start = form.len();
        let whole = without_leading_zeros(self.whole);
        form.extend_from_slice(whole);
        form.extend_from_slice(match whole {
            [] => without_leading_zeros(self.fraction),
            _ => self.fraction,
        });
        let digits = &form[digits_start..];
        let Some(last) = digits.iter().rposition(|digit| *digit != b'0') else {
            form.truncate(start);
            form.extend_from_slice(b"0;");
            return;
        };
        let trailing_zeros = digits.len() - 1 - last;
        form.truncate(digits_start + last + 1);
        // Lengths of slices fit an `i64`.
        let shift = trailing_zeros as i64 - self.fraction.len() as i64;
        self.write_power(shift, form);
        form.push(b';');
    }

    /// Writes `e` and the sum of the exponent and `shift`, unless that is 0. The size of `shift` is at
    /// most the length of a text.
    fn write_power(&self, shift: i64, form: &mut Vec<u8>) {
        let exponent = without_leading_zeros(self.exponent);
        let sign = if self.exponent_is_negative { -1 } else { 1 };
        if exponent.len() <= MAX_SMALL_DIGITS {
            let size = exponent
                .iter()
                .fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
            let power = sign * size + shift;
            if power != 0 {
                form.push(b'e');
                write_integer(power, form);
            }
            return;
        }
        // Larger than any `shift`, so that the sign stays.
        form.push(b'e');
        if self.exponent_is_negative {
            form.push(b'-');
        }
        let start = form.len();
        form.push(b'0');
        form.extend_from_slice(exponent);
        add(&mut form[start..], sign * shift);
        let zeros = form[start..].len() - without_leading_zeros(&form[start..]).len();
        form.drain(start..start + zeros);
    }
}

/// Adds to a decimal number, which has room for the sum.
fn add(digits: &mut [u8], addend: i64) {
    let mut carry = addend;
    for digit in digits.iter_mut().rev() {
        if carry == 0 {
            break;
        }
        let sum = i64::from(*digit - b'0') + carry;
        // 0 to 9.
        *digit = b'0' + sum.rem_euclid(10) as u8;
        carry = sum.div_euclid(10);
    }
}

fn write_integer(number: i64, form: &mut Vec<u8>) {
    if number < 0 {
        form.push(b'-');
    }
    let start = form.len();
    let mut rest = number.unsigned_abs();
    while rest > 0 {
        // 0 to 9.
        form.push(b'0' + (rest % 10) as u8);
        rest /= 10;
    }
    form[start..].reverse();
}

/// Reads one of some bytes, if it is next. Returns whether it was.
fn skip(rest: &mut &[u8], bytes: &[u8]) -> bool {
    match rest.split_first() {
        Some((first, after)) if bytes.contains(first) => {
            *rest = after;
            true
        }
        _ => false,
    }
}

/// Reads at least one digit.
fn digits<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|byte| !byte.is_ascii_digit());
    let (digits, after) = rest.split_at(end.unwrap_or(rest.len()));
    *rest = after;
    (!digits.is_empty()).then_some(digits)
}

fn without_leading_zeros(digits: &[u8]) -> &[u8] {
    let first = digits.iter().position(|digit| *digit != b'0');
    &digits[first.unwrap_or(digits.len())..]
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::Number;

    fn spelled(text: &str) -> Option<String> {
        let (number, length) = Number::read(text.as_bytes())?;
        let mut form = Vec::new();
        number.write(&mut form);
        (length == text.len()).then(|| String::from_utf8(form).expect("is ASCII"))
    }

    #[test]
    fn equal_numbers_have_one_spelling() {
        for (text, spelling) in [
            ("0", "0;"),
            ("-0.00e-7", "0;"),
            ("0e99999999999999999999", "0;"),
            ("1", "1;"),
            ("-120", "-12e1;"),
            ("1.0", "1;"),
            ("0.00120", "12e-4;"),
            ("10.010E+2", "1001;"),
            ("1e9223372036854775807", "1e9223372036854775807;"),
            ("10e9223372036854775807", "1e9223372036854775808;"),
            ("1e00000000000000000000000007", "1e7;"),
            ("100e99999999999999999999", "1e100000000000000000001;"),
            ("0.01e100000000000000000001", "1e99999999999999999999;"),
            ("0.1e1000000000000000000", "1e999999999999999999;"),
            ("100e-1000000000000000000", "1e-999999999999999998;"),
            ("0.1e-999999999999999999", "1e-1000000000000000000;"),
            ("0.1e-9999999999999999999", "1e-10000000000000000000;"),
            ("1.20e-99999999999999999999", "12e-100000000000000000000;"),
        ] {
            assert_eq!(spelled(text).as_deref(), Some(spelling), "{text}");
        }
    }

    #[test]
    fn invalid_number_is_refused() {
        for text in [
            "", "-", "+1", "01", "-01", "00", ".5", "1.", "1.e1", "1e", "1e+", "1e+-1", "e1",
            "0x1", "1 ",
        ] {
            assert_eq!(spelled(text), None, "{text:?}");
        }
    }
}
