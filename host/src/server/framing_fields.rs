//! The header fields that frame a body, `Content-Length` and `Transfer-Encoding`, read as their bytes arrive, or from a
//! header section that has arrived as a whole.
//!
//! Reads valid values as hyper does.

use memchr::memchr;

const CHUNKED: &[u8] = b"chunked";

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
    let (request_line, mut rest) = split_line(bytes.strip_prefix(b"POST")?)?;
    // With a space of its own at each end.
    let target = request_line.strip_suffix(b"HTTP/1.1\r")?;
    let is_target = target.len() > 1 && target.starts_with(b" ") && target.ends_with(b" ");
    if !is_target || memchr(b'#', target).is_some() {
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
                    let push = |value: FieldValue, byte: &u8| value.push(*byte);
                    fields.add(field, value.iter().fold(FieldValue::default(), push));
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
