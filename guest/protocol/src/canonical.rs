//! The canonical form of a JSON text: the same for equal values, different for different ones.
//!
//! Reads the text once and checks its grammar on the way. Does not recurse: nesting is bounded by the
//! length of the text only, and costs a byte for each open array and some words for each open object.
//!
//! Each value in the form has an unambiguous end:
//!
//! | value | form |
//! | --- | --- |
//! | string | `"`, its text without escapes, 0xFF, which is no byte of UTF-8 |
//! | number | its digits without zeros at either end, `e` and the power of ten unless that is 0, `;` |
//! | literal | its first letter |
//! | array | `[`, its elements, `]` |
//! | object | `{`, its members in the order of their names, each a string and a value, `}` |
//!
//! A digest stands for a long value of a member, `#` and its 32 bytes: however deep objects are nested,
//! sorting their members copies each byte a bounded number of times.

use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::json_string::push_code_point;
use crate::number::Number;

/// The size of a value's form in bytes beyond which its digest stands for it in a member: less is
/// copied faster than it is hashed.
const MAX_INLINE_BYTES: usize = 64;

/// Ends a string.
const STRING_END: u8 = 0xFF;

/// The canonical form of a JSON text, or `None` if the text is not valid JSON.
pub(crate) fn canonical_form(text: &str) -> Option<Vec<u8>> {
    let mut reader = Reader {
        bytes: text.as_bytes(),
        position: 0,
    };
    let mut form = Form {
        bytes: Vec::with_capacity(text.len()),
        ..Form::default()
    };
    let mut expected = Expected::Value;
    while let Some(token) = reader.token() {
        expected = match (expected, token) {
            (Expected::ElementOrEnd | Expected::CommaOrEnd, b']') if form.is_in_array() => {
                form.close_array()
            }
            (Expected::NameOrEnd | Expected::CommaOrEnd, b'}') if form.is_in_object() => {
                form.close_object()
            }
            (Expected::CommaOrEnd, b',') if form.is_in_array() => Expected::Value,
            (Expected::CommaOrEnd, b',') if form.is_in_object() => Expected::Name,
            (Expected::Name | Expected::NameOrEnd, b'"') => {
                reader.string(&mut form.bytes)?;
                let is_named = reader.token()? == b':';
                is_named.then(|| form.begin_member_value())?
            }
            (Expected::Value | Expected::ElementOrEnd, b'[') => form.open_array(),
            (Expected::Value | Expected::ElementOrEnd, b'{') => form.open_object(),
            (Expected::Value | Expected::ElementOrEnd, _) => {
                reader.scalar(token, &mut form.bytes)?;
                form.end_value()
            }
            _ => return None,
        };
    }
    let is_complete = expected == Expected::CommaOrEnd && form.open.is_empty();
    is_complete.then_some(form.bytes)
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Value,
    /// Behind `[`.
    ElementOrEnd,
    /// Behind `{`.
    NameOrEnd,
    Name,
    /// Behind a value; behind the outermost one, nothing.
    CommaOrEnd,
}

/// A container whose end was not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Array,
    Object,
}

/// An object whose end was not read yet.
struct OpenObject {
    /// Where its first member begins in the form.
    start: usize,
    /// The index of its first member among those of all open objects.
    first_member: usize,
    /// Where the value of its latest member begins in the form.
    value_start: usize,
}

/// A member of an open object.
struct Member {
    /// The first bytes of its name, which are compared first.
    prefix: [u8; 8],
    /// Where it begins and ends in the form.
    start: usize,
    end: usize,
}

/// The form as far as the text was read.
#[derive(Default)]
struct Form {
    bytes: Vec<u8>,
    open: Vec<Open>,
    objects: Vec<OpenObject>,
    /// The members of all open objects, those of inner ones behind those of outer ones.
    members: Vec<Member>,
    sorted: Vec<u8>,
}

impl Form {
    fn is_in_array(&self) -> bool {
        self.open.last() == Some(&Open::Array)
    }

    fn is_in_object(&self) -> bool {
        self.open.last() == Some(&Open::Object)
    }

    fn open_array(&mut self) -> Expected {
        self.bytes.push(b'[');
        self.open.push(Open::Array);
        Expected::ElementOrEnd
    }

    fn open_object(&mut self) -> Expected {
        self.bytes.push(b'{');
        self.open.push(Open::Object);
        self.objects.push(OpenObject {
            start: self.bytes.len(),
            first_member: self.members.len(),
            value_start: 0,
        });
        Expected::NameOrEnd
    }

    fn begin_member_value(&mut self) -> Expected {
        if let Some(object) = self.objects.last_mut() {
            object.value_start = self.bytes.len();
        }
        Expected::Value
    }

    fn close_array(&mut self) -> Expected {
        self.bytes.push(b']');
        self.open.pop();
        self.end_value()
    }

    fn close_object(&mut self) -> Expected {
        if let Some(object) = self.objects.pop() {
            self.sort_members(&object);
            self.members.truncate(object.first_member);
        }
        self.bytes.push(b'}');
        self.open.pop();
        self.end_value()
    }

    /// Adds the member whose value has ended, if one has.
    fn end_value(&mut self) -> Expected {
        if self.is_in_object()
            && let Some(object) = self.objects.last()
        {
            let value = &self.bytes[object.value_start..];
            if value.len() > MAX_INLINE_BYTES {
                let digest = blake3::hash(value);
                self.bytes.truncate(object.value_start);
                self.bytes.push(b'#');
                self.bytes.extend_from_slice(digest.as_bytes());
            }
            let before = self.members.get(object.first_member..).unwrap_or_default();
            let start = before.last().map_or(object.start, |member| member.end);
            self.members.push(Member {
                prefix: prefix(&self.bytes[start..object.value_start]),
                start,
                end: self.bytes.len(),
            });
        }
        Expected::CommaOrEnd
    }

    /// Puts the members of an object into the order of their names. Of a name given twice the last
    /// member stays.
    fn sort_members(&mut self, object: &OpenObject) {
        let members = &mut self.members[object.first_member..];
        let bytes = &self.bytes;
        members.sort_unstable_by(|left, right| {
            compare_names(bytes, left, right).then(left.start.cmp(&right.start))
        });
        self.sorted.clear();
        for (index, member) in members.iter().enumerate() {
            let is_last = members
                .get(index + 1)
                .is_none_or(|next| compare_names(bytes, member, next).is_ne());
            if is_last {
                self.sorted
                    .extend_from_slice(&bytes[member.start..member.end]);
            }
        }
        self.bytes.truncate(object.start);
        self.bytes.extend_from_slice(&self.sorted);
    }
}

/// The first bytes of a string of the form, or all of a short one with zeros behind it.
fn prefix(string: &[u8]) -> [u8; 8] {
    let mut prefix = [0; 8];
    // Behind the mark of a string.
    for (to, from) in prefix.iter_mut().zip(&string[1..]) {
        *to = *from;
    }
    prefix
}

/// An order of members in which those of one name are equal.
fn compare_names(bytes: &[u8], left: &Member, right: &Member) -> Ordering {
    left.prefix.cmp(&right.prefix).then_with(|| {
        let mut pairs = bytes[left.start..].iter().zip(&bytes[right.start..]);
        let decisive = pairs.find(|(left, right)| left != right || **left == STRING_END);
        decisive.map_or(Ordering::Equal, |(left, right)| left.cmp(right))
    })
}

/// A JSON text, and how far it was read.
struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.position).copied();
        self.position += 1;
        byte
    }

    /// The first byte of the next token, behind which it is read on.
    fn token(&mut self) -> Option<u8> {
        loop {
            let byte = self.next()?;
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
        }
    }

    /// Reads the rest of a string, number or literal.
    fn scalar(&mut self, first: u8, form: &mut Vec<u8>) -> Option<()> {
        match first {
            b'"' => return self.string(form),
            b't' => self.literal(b"rue")?,
            b'f' => self.literal(b"alse")?,
            b'n' => self.literal(b"ull")?,
            _ => return self.number(first, form),
        }
        form.push(first);
        Some(())
    }

    fn number(&mut self, first: u8, form: &mut Vec<u8>) -> Option<()> {
        // Most numbers are of one digit, which is how they are spelled.
        let is_short = matches!(first, b'1'..=b'9')
            && !matches!(self.rest(), [b'0'..=b'9' | b'.' | b'e' | b'E', ..]);
        if is_short {
            form.extend_from_slice(&[first, b';']);
            return Some(());
        }
        let (number, length) = Number::read(&self.bytes[self.position - 1..])?;
        self.position += length - 1;
        number.write(form);
        Some(())
    }

    fn literal(&mut self, rest: &[u8]) -> Option<()> {
        self.rest().starts_with(rest).then_some(())?;
        self.position += rest.len();
        Some(())
    }

    /// Reads the rest of a string, behind its opening quote.
    fn string(&mut self, form: &mut Vec<u8>) -> Option<()> {
        form.push(b'"');
        loop {
            let rest = self.rest();
            let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1F);
            let length = rest.iter().position(is_special)?;
            form.extend_from_slice(&rest[..length]);
            let special = rest[length];
            self.position += length + 1;
            match special {
                b'"' => break,
                b'\\' => push_code_point(form, self.escape()?),
                _ => return None,
            }
        }
        form.push(STRING_END);
        Some(())
    }

    /// The code point that an escape stands for, read behind its backslash.
    fn escape(&mut self) -> Option<u32> {
        let code_point = match self.next()? {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 0x08,
            b'f' => 0x0C,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return self.unicode_escape(),
            _ => return None,
        };
        Some(code_point.into())
    }

    /// The number in `XXXX`, or in `XXXX\uXXXX` where the two are a pair of surrogates.
    fn unicode_escape(&mut self) -> Option<u32> {
        let high = hexadecimal(self.rest())?;
        self.position += 4;
        if (0xD800..0xDC00).contains(&high)
            && let Some(low) = self.rest().strip_prefix(b"\\u")
            && let Some(low @ 0xDC00..0xE000) = hexadecimal(low)
        {
            self.position += 6;
            return Some(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00));
        }
        Some(high)
    }
}

/// The number in the first four digits.
fn hexadecimal(text: &[u8]) -> Option<u32> {
    let digits = text.get(..4)?;
    digits.iter().try_fold(0, |number, digit| {
        Some(number * 16 + char::from(*digit).to_digit(16)?)
    })
}
