//! The header fields that frame a body, `Content-Length` and `Transfer-Encoding`, read as their bytes arrive, or from a
//! header section that has arrived as a whole.
//!
//! Reads valid values as hyper does.

use memchr::{memchr, memchr2};

const CHUNKED: &[u8] = b"chunked";

/// The most digits of which every number fits in a `u64`.
const MAX_DIGITS: usize = 19;

/// A field that frames a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FramingField {
    ContentLength,
    TransferEncoding,
}

/// The part of a field's value that was read so far, without the white space around it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FieldValue {
    bytes: usize,
    number: Option<u64>,
    is_chunked: bool,
    has_ended: bool,
}

/// The framing fields of a header section that were read so far.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct FramingFields {
    has_chunked: bool,
    pub(crate) has_other_coding: bool,
    pub(crate) length: Option<u64>,
    /// Whether a length is not a number, or two lengths differ.
    pub(crate) has_bad_length: bool,
}

impl FramingField {
    /// The only such field whose name starts with this byte.
    pub(crate) fn starting_with(byte: u8) -> Option<Self> {
        match byte {
            b'c' | b'C' => Some(Self::ContentLength),
            b't' | b'T' => Some(Self::TransferEncoding),
            _ => None,
        }
    }

    /// The value in a line of the header section that is this field.
    pub(crate) fn value(self, line: &[u8]) -> Option<&[u8]> {
        let (name, rest) = line.split_at_checked(self.name().len())?;
        // The colon first: few other names have that length.
        let value = rest.strip_prefix(b":")?;
        name.eq_ignore_ascii_case(self.name()).then_some(value)
    }

    /// The name in lower case.
    pub(crate) fn name(self) -> &'static [u8] {
        match self {
            Self::ContentLength => b"content-length",
            Self::TransferEncoding => b"transfer-encoding",
        }
    }
}

impl Default for FieldValue {
    fn default() -> Self {
        Self {
            bytes: 0,
            number: Some(0),
            is_chunked: true,
            has_ended: false,
        }
    }
}

impl FieldValue {
    /// A value that has arrived as a whole.
    fn from_bytes(value: &[u8]) -> Self {
        Self::from_digits(value).unwrap_or_else(|| {
            let push = |value: Self, byte: &u8| value.push(*byte);
            value.iter().fold(Self::default(), push)
        })
    }

    /// Reads the usual form, one space and up to [`MAX_DIGITS`] digits, in less time than byte by byte; `None` for any
    /// other value.
    fn from_digits(value: &[u8]) -> Option<Self> {
        let digits = value.strip_prefix(b" ")?.strip_suffix(b"\r")?;
        if digits.is_empty() || digits.len() > MAX_DIGITS {
            return None;
        }
        let mut number = 0;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return None;
            }
            number = number * 10 + u64::from(digit - b'0');
        }
        Some(Self {
            bytes: digits.len(),
            number: Some(number),
            is_chunked: false,
            has_ended: false,
        })
    }

    /// The value with one more byte.
    pub(crate) fn push(mut self, byte: u8) -> Self {
        match byte {
            // hyper accepts a CR only at the end of a line.
            b'\r' => {}
            b' ' | b'\t' => self.has_ended = self.bytes > 0,
            _ => {
                let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
                let number = self.number.filter(|_| !self.has_ended);
                self.number = number.and_then(|number| number.checked_mul(10)?.checked_add(digit?));
                let is_next = CHUNKED.get(self.bytes) == Some(&byte.to_ascii_lowercase());
                self.is_chunked &= is_next && !self.has_ended;
                self.bytes += 1;
            }
        }
        self
    }
}

impl FramingFields {
    /// Whether the body is chunked and has no other coding.
    pub(crate) fn is_chunked(&self) -> bool {
        self.has_chunked && !self.has_other_coding
    }

    pub(crate) fn add(&mut self, field: FramingField, value: FieldValue) {
        match field {
            FramingField::TransferEncoding => {
                let is_chunked = value.is_chunked && value.bytes == CHUNKED.len();
                // `chunked` twice is as invalid as another coding.
                self.has_other_coding |= self.has_chunked || !is_chunked;
                self.has_chunked |= is_chunked;
            }
            FramingField::ContentLength => {
                let length = value.number.filter(|_| value.bytes > 0);
                let is_known = self.length.is_none() || self.length == length;
                self.has_bad_length |= length.is_none() || !is_known;
                self.length = self.length.or(length);
            }
        }
    }
}

/// Parses the header section of a `POST` without a fragment that is there as a whole, as most are: line by line, which
/// takes less time than byte by byte. Returns its fields, and the bytes after it; `None` for any other.
pub(crate) fn whole_head(bytes: &[u8]) -> Option<(FramingFields, &[u8])> {
    let bytes = bytes.strip_prefix(b"POST")?;
    let (request_line, rest) = bytes.split_at(memchr2(b'\n', b'#', bytes)?);
    let mut rest = rest.strip_prefix(b"\n")?;
    // With a space of its own at each end.
    let target = request_line.strip_suffix(b"HTTP/1.1\r")?;
    if target.len() < 2 || !target.starts_with(b" ") || !target.ends_with(b" ") {
        return None;
    }
    let mut fields = FramingFields::default();
    loop {
        let (line, after) = split_line(rest)?;
        rest = after;
        match line {
            b"\r" | [] => return Some((fields, rest)),
            // The CR of an empty line that has no LF.
            [b'\r', ..] => return None,
            [first, ..] => {
                if let Some(field) = FramingField::starting_with(*first)
                    && let Some(value) = field.value(line)
                {
                    fields.add(field, FieldValue::from_bytes(value));
                }
            }
        }
    }
}

/// The bytes before and after the first LF.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr(b'\n', bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::FieldValue;

    #[test]
    fn whole_value_is_read_as_byte_by_byte() {
        for value in [
            " 0\r",
            " 12\r",
            "12\r",
            " 12",
            "  12\r",
            " 12 \r",
            " 1 2\r",
            " \r",
            "",
            " +1\r",
            " -1\r",
            " 1a\r",
            " 9999999999999999999\r",
            " 18446744073709551615\r",
            " 18446744073709551616\r",
            " chunked\r",
            " 00000000000000000001\r",
        ] {
            let pushed = value.bytes().fold(FieldValue::default(), FieldValue::push);
            let whole = FieldValue::from_bytes(value.as_bytes());
            assert_eq!(format!("{whole:?}"), format!("{pushed:?}"), "{value:?}");
        }
    }
}
