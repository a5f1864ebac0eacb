//! Skips JSON values (RFC 8259), checking them: finds where a value ends without reading it.
//!
//! Most bytes of a body are in its event, which is passed on as it is. Long strings are compared by vector
//! instructions.

use alloc::vec::Vec;

/// The number of bytes of the first block of a long string that is compared at once. The blocks after it are twice as long.
const BLOCK_BYTES: usize = 32;

/// How many bytes are compared at a time by arithmetic.
const WORD_BYTES: usize = 8;

/// A position in a text.
pub(crate) struct Skipper<'text> {
    text: &'text str,
    at: usize,
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
    pub(crate) fn new(text: &'text str) -> Self {
        Self { text, at: 0 }
    }

    /// Skips a value between white space, and returns it without that.
    pub(crate) fn value(&mut self) -> Option<&'text str> {
        self.white_space();
        let start = self.at;
        let mut nesting = Nesting::default();
        while !self.value_in(&mut nesting)? {}
        let value = self.text.get(start..self.at);
        self.white_space();
        value
    }

    /// Skips a string between white space, and returns it with its quotes.
    pub(crate) fn name(&mut self) -> Option<&'text str> {
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
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
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
        loop {
            self.plain();
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => self.escape()?,
                _ => return None,
            }
        }
    }

    /// Skips the bytes of a string that stand for themselves.
    fn plain(&mut self) {
        let mut rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        // Words before blocks, since most strings are shorter than a block, and once more in a block that has another
        // byte.
        loop {
            for _ in 0..BLOCK_BYTES / WORD_BYTES {
                let Some((word, behind)) = rest.split_first_chunk::<WORD_BYTES>() else {
                    let plain = rest.iter().take_while(|byte| is_plain(**byte)).count();
                    self.at = self.text.len() - rest.len() + plain;
                    return;
                };
                if let Some(plain) = first_special(u64::from_le_bytes(*word)) {
                    self.at = self.text.len() - rest.len() + plain;
                    return;
                }
                rest = behind;
            }
            rest = without_plain_blocks(rest);
        }
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

/// Whether a byte of a string stands for itself.
fn is_plain(byte: u8) -> bool {
    !matches!(byte, 0..0x20 | b'"' | b'\\')
}

/// What follows the blocks that have only bytes which stand for themselves.
fn without_plain_blocks(bytes: &[u8]) -> &[u8] {
    let Some((block, mut rest)) = bytes.split_first_chunk::<BLOCK_BYTES>() else {
        return bytes;
    };
    if !is_plain_block(block) {
        return bytes;
    }
    // Behind a block that is plain, larger ones.
    while let Some((block, behind)) = rest.split_first_chunk::<{ 2 * BLOCK_BYTES }>()
        && is_plain_block(block)
    {
        rest = behind;
    }
    rest
}

/// Whether all bytes of a block stand for themselves.
#[cfg(target_feature = "simd128")]
fn is_plain_block<const BYTES: usize>(block: &[u8; BYTES]) -> bool {
    use core::arch::wasm32::{
        u8x16_all_true, u8x16_min, u8x16_splat, u8x16_sub_sat, u64x2, v128_xor,
    };

    const { assert!(BYTES.is_multiple_of(2 * WORD_BYTES), "whole vectors") };
    let (words, _) = block.as_chunks::<WORD_BYTES>();
    let (vectors, _) = words.as_chunks::<2>();
    // Zero for each byte that does not stand for itself: this takes fewer instructions than comparisons.
    let plain = vectors.iter().map(|words| {
        let [low, high] = words.map(u64::from_le_bytes);
        let bytes = u64x2(low, high);
        // Exchanges the quote and 0x20; control characters remain below.
        let exchanged = v128_xor(bytes, u8x16_splat(b'"' ^ 0x20));
        let no_control_or_quote = u8x16_sub_sat(exchanged, u8x16_splat(0x20));
        let no_backslash = v128_xor(bytes, u8x16_splat(b'\\'));
        u8x16_min(no_control_or_quote, no_backslash)
    });
    u8x16_all_true(plain.fold(u8x16_splat(0xFF), |all, more| u8x16_min(all, more)))
}

/// As above. On other processors the compiler makes vector instructions of a loop.
#[cfg(not(target_feature = "simd128"))]
fn is_plain_block<const BYTES: usize>(block: &[u8; BYTES]) -> bool {
    block
        .iter()
        .fold(0, |any, byte| any | u8::from(!is_plain(*byte)))
        == 0
}

/// The index, from the lowest, of the first byte that does not stand for itself.
fn first_special(word: u64) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([0x01; WORD_BYTES]);
    const HIGH: u64 = u64::from_le_bytes([0x80; WORD_BYTES]);
    // The lowest byte below `least` has its high bit set, as may have higher ones.
    let below = |word: u64, least: u8| word.wrapping_sub(ONES * u64::from(least)) & !word;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let special = (below(word, 0x20) | is(b'"') | is(b'\\')) & HIGH;
    (special != 0).then(|| special.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use super::{Nesting, Skipper};

    fn is_value(text: &str) -> bool {
        let mut skipper = Skipper::new(text);
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
