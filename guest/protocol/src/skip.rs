//! Skips JSON values (RFC 8259), checking them: finds where a value ends without reading it.
//!
//! Most bytes of a body are in its event, which is passed on as it is. Its strings are compared 16 bytes at a time.

use alloc::vec::Vec;
use core::ops::Range;

use crate::vector::{BLOCK_BYTES, VECTOR_BYTES, Vector, is_plain, plain_block};

/// A position in a text that may not be UTF-8.
pub(crate) struct Skipper<'text> {
    text: &'text [u8],
    at: usize,
    /// False once a byte of 0x80 or more was read, which may be behind the position. Outside strings only ASCII is skipped.
    is_ascii: bool,
}

/// The arrays and objects around a position: one bit each, which is set for an object.
#[derive(Default)]
struct Nesting {
    depth: usize,
    /// The innermost is the lowest bit.
    objects: u128,
    /// The bits of those further out, if they fill more than one number.
    outer: Vec<u128>,
}

/// Functions that return an option return `None` where the text is not what they skip.
impl<'text> Skipper<'text> {
    pub(crate) fn new(text: &'text [u8]) -> Self {
        Self {
            text,
            at: 0,
            is_ascii: true,
        }
    }

    /// Whether all bytes that were read so far are ASCII.
    pub(crate) fn is_ascii(&self) -> bool {
        self.is_ascii
    }

    /// Skips a value between white space, and returns where it is, without that.
    pub(crate) fn value(&mut self) -> Option<Range<usize>> {
        self.white_space();
        let start = self.at;
        let mut nesting = Nesting::default();
        while !self.value_in(&mut nesting)? {}
        let value = start..self.at;
        self.white_space();
        Some(value)
    }

    /// Skips a string between white space, and returns it with its quotes.
    pub(crate) fn name(&mut self) -> Option<&'text [u8]> {
        self.white_space();
        let start = self.at;
        self.byte(b'"')?;
        self.string()?;
        let name = self.text.get(start..self.at);
        self.white_space();
        name
    }

    /// Skips this byte.
    pub(crate) fn byte(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    /// Skips this byte, if it is the next one. Returns whether it is.
    pub(crate) fn skips(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// Skips one byte, whatever it is.
    pub(crate) fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    pub(crate) fn white_space(&mut self) {
        while self.peek().is_some_and(is_white_space) {
            self.at += 1;
        }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    fn rest(&self) -> &'text [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Skips up to the next value in arrays and objects, or to their end. Returns whether that is the end.
    fn value_in(&mut self, nesting: &mut Nesting) -> Option<bool> {
        match self.next()? {
            b'"' => self.string()?,
            b'-' => {
                let digit = self.next()?;
                self.number(digit)?;
            }
            digit @ b'0'..=b'9' => self.number(digit)?,
            b't' => self.literal(b"rue")?,
            b'f' => self.literal(b"alse")?,
            b'n' => self.literal(b"ull")?,
            b'{' => {
                self.white_space();
                if !self.skips(b'}') {
                    nesting.push(true);
                    return self.member_name().map(|()| false);
                }
            }
            b'[' => {
                self.white_space();
                if !self.skips(b']') {
                    nesting.push(false);
                    return Some(false);
                }
            }
            _ => return None,
        }
        self.ends(nesting)
    }

    /// Skips the ends of arrays and objects behind a value, and a comma. Returns whether all have ended.
    fn ends(&mut self, nesting: &mut Nesting) -> Option<bool> {
        while nesting.depth > 0 {
            self.white_space();
            match (self.next()?, nesting.is_object()) {
                (b',', true) => {
                    self.white_space();
                    return self.member_name().map(|()| false);
                }
                (b',', false) => {
                    self.white_space();
                    return Some(false);
                }
                (b'}', true) | (b']', false) => nesting.pop(),
                _ => return None,
            }
        }
        Some(true)
    }

    /// Skips the name of a member, the colon, and white space behind it.
    fn member_name(&mut self) -> Option<()> {
        self.name()?;
        self.byte(b':')?;
        self.white_space();
        Some(())
    }

    /// Skips the rest of a string behind its first quote.
    fn string(&mut self) -> Option<()> {
        // Most strings are short and have no escapes. They are skipped without a loop: at the start of each iteration
        // Wasmtime checks whether the epoch has ended.
        if let Some(bytes) = self.rest().first_chunk() {
            self.plain_in(bytes);
            if self.skips(b'"') {
                return Some(());
            }
        }
        self.long_string()
    }

    /// As above, for a string of any length.
    fn long_string(&mut self) -> Option<()> {
        loop {
            self.plain();
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => self.escape()?,
                _ => return None,
            }
        }
    }

    /// Skips plain bytes: those of a string that stand for themselves.
    fn plain(&mut self) {
        loop {
            // Vectors before blocks, and again in a block that has a byte which is not plain.
            for _ in 0..BLOCK_BYTES / VECTOR_BYTES {
                let Some(bytes) = self.rest().first_chunk() else {
                    return self.plain_at_end();
                };
                if self.plain_in(bytes) < VECTOR_BYTES {
                    return;
                }
            }
            self.plain_blocks();
        }
    }

    /// Skips the plain bytes at the start of `bytes`, the next ones. Returns their number.
    fn plain_in(&mut self, bytes: &[u8; VECTOR_BYTES]) -> usize {
        let vector = Vector::new(bytes);
        let plain = vector.plain_bytes(0);
        self.is_ascii &= vector.is_ascii();
        self.at += plain;
        plain
    }

    /// Skips whole blocks of plain bytes.
    fn plain_blocks(&mut self) {
        while let Some(block) = self.rest().first_chunk()
            && let Some(is_ascii) = plain_block(block)
        {
            self.is_ascii &= is_ascii;
            self.at += BLOCK_BYTES;
        }
    }

    /// Skips the plain bytes at the start of the rest of the text, which is shorter than a vector.
    fn plain_at_end(&mut self) {
        let rest = self.rest();
        self.at += match self.text.last_chunk() {
            Some(bytes) => {
                let vector = Vector::new(bytes);
                self.is_ascii &= vector.is_ascii();
                vector.plain_bytes(VECTOR_BYTES - rest.len())
            }
            None => {
                self.is_ascii &= rest.is_ascii();
                rest.iter().take_while(|byte| is_plain(**byte)).count()
            }
        };
    }

    /// Skips the rest of an escape behind its backslash. Surrogates may be unpaired.
    fn escape(&mut self) -> Option<()> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => (0..4).try_for_each(|_| self.next()?.is_ascii_hexdigit().then_some(())),
            _ => None,
        }
    }

    /// Skips the rest of a number behind its first digit.
    fn number(&mut self, first: u8) -> Option<()> {
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Some(())
    }

    fn some_digits(&mut self) -> Option<()> {
        self.next()?.is_ascii_digit().then(|| self.digits())
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
    }

    fn literal(&mut self, rest: &[u8]) -> Option<()> {
        rest.iter().try_for_each(|byte| self.byte(*byte))
    }
}

impl Nesting {
    const BITS: usize = u128::BITS as usize;

    fn push(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(Self::BITS) {
            self.outer.push(self.objects);
        }
        self.objects = (self.objects << 1) | u128::from(is_object);
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.objects = match self.outer.pop_if(|_| self.depth.is_multiple_of(Self::BITS)) {
            Some(outer) => outer,
            None => self.objects >> 1,
        };
    }

    fn is_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

/// White space of RFC 8259 section 2.
pub(crate) fn is_white_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use super::{Nesting, Skipper};

    fn is_value(text: &str) -> bool {
        let mut skipper = Skipper::new(text.as_bytes());
        skipper.value().is_some() && skipper.is_at_end()
    }

    #[test]
    fn string_ends_at_any_offset() {
        for offset in 0..100 {
            let plain = "a".repeat(offset);
            for rest in [
                "",
                "b",
                "\\n",
                "\\u00e9",
                "\u{7f}",
                "é",
                "\u{80}\u{a2}",
                "😀\u{9c}",
            ] {
                assert!(
                    is_value(&format!("\"{plain}{rest}{plain}\"")),
                    "{offset} {rest}"
                );
                assert!(
                    !is_value(&format!("\"{plain}{rest}{plain}")),
                    "{offset} {rest}"
                );
            }
            for control in ('\0'..' ').chain(['"']) {
                let text = format!("\"{plain}{control}{plain}{plain}\"");
                assert!(!is_value(&text), "{text:?}");
            }
        }
    }

    #[test]
    fn nesting_is_skipped_to_any_depth() {
        let nested = |depth: usize, outermost: [&str; 2], inner: [&str; 2]| {
            let [open, close] = inner.map(|it| it.repeat(depth - 1));
            let [first, last] = outermost;
            let text: String = [first, &*open, "1", &*close, last].concat();
            is_value(&text)
        };
        let (array, object) = (["[", "]"], ["{\"a\":", "}"]);
        for (outermost, other) in [(array, object), (object, array)] {
            for inner in [array, object] {
                for depth in 1..3 * Nesting::BITS {
                    assert!(nested(depth, outermost, inner), "{depth}");
                    let mixed = [outermost[0], other[1]];
                    assert!(!nested(depth, mixed, inner), "{depth} {mixed:?}");
                }
            }
        }
    }
}
