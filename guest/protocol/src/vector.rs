//! Compares many bytes of a text at a time: by the vector instructions of WebAssembly, or by arithmetic.

#[cfg(target_feature = "simd128")]
use core::arch::wasm32::v128;

/// The size of a [`Vector`].
pub(crate) const VECTOR_BYTES: usize = 16;

/// The size of a block of vectors, which are compared faster together.
pub(crate) const BLOCK_BYTES: usize = 4 * VECTOR_BYTES;

/// Some bytes of a text.
#[cfg(target_feature = "simd128")]
#[derive(Clone, Copy)]
pub(crate) struct Vector(v128);

/// Some bytes of a text. The first one is the lowest.
#[cfg(not(target_feature = "simd128"))]
#[derive(Clone, Copy)]
pub(crate) struct Vector(u128);

/// Whether a byte of a JSON string stands for itself (RFC 8259 section 7), or is part of a character that does.
pub(crate) fn is_plain(byte: u8) -> bool {
    !matches!(byte, 0..0x20 | b'"' | b'\\')
}

#[cfg(target_feature = "simd128")]
impl Vector {
    pub(crate) fn new(bytes: &[u8; VECTOR_BYTES]) -> Self {
        let bytes = u128::from_le_bytes(*bytes);
        Self(core::arch::wasm32::u64x2(
            bytes as u64,
            (bytes >> 64) as u64,
        ))
    }

    /// The number of plain bytes from the one at `start` to the first that is not.
    pub(crate) fn plain_bytes(self, start: usize) -> usize {
        use core::arch::wasm32::{i8x16_bitmask, i8x16_eq, u8x16_splat};

        let special = i8x16_bitmask(i8x16_eq(self.nonzero_if_plain(), u8x16_splat(0)));
        let plain = (u32::from(special) >> start).trailing_zeros() as usize;
        plain.min(VECTOR_BYTES - start)
    }

    pub(crate) fn is_ascii(self) -> bool {
        core::arch::wasm32::i8x16_bitmask(self.0) == 0
    }

    /// Zero for each byte that is not plain, and other numbers for the others. This takes fewer instructions than comparisons.
    fn nonzero_if_plain(self) -> v128 {
        use core::arch::wasm32::{u8x16_min, u8x16_splat, u8x16_sub_sat, v128_xor};

        // Exchanges the quote and 0x20; control characters remain below.
        let exchanged = v128_xor(self.0, u8x16_splat(b'"' ^ 0x20));
        let no_control_or_quote = u8x16_sub_sat(exchanged, u8x16_splat(0x20));
        let no_backslash = v128_xor(self.0, u8x16_splat(b'\\'));
        u8x16_min(no_control_or_quote, no_backslash)
    }
}

/// Whether all bytes of a block are plain, and, if so, whether they are ASCII.
#[cfg(target_feature = "simd128")]
pub(crate) fn plain_block(block: &[u8; BLOCK_BYTES]) -> Option<bool> {
    use core::arch::wasm32::{u8x16_all_true, u8x16_min, v128_or};

    let (vectors, _) = block.as_chunks();
    let vectors = vectors.iter().map(Vector::new);
    let plain = vectors.clone().map(Vector::nonzero_if_plain);
    let plain = plain.reduce(|all, more| u8x16_min(all, more))?;
    let Vector(any) = vectors.reduce(|Vector(any), Vector(more)| Vector(v128_or(any, more)))?;
    u8x16_all_true(plain).then(|| Vector(any).is_ascii())
}

#[cfg(not(target_feature = "simd128"))]
impl Vector {
    pub(crate) fn new(bytes: &[u8; VECTOR_BYTES]) -> Self {
        Self(u128::from_le_bytes(*bytes))
    }

    /// The number of plain bytes from the one at `start` to the first that is not.
    pub(crate) fn plain_bytes(self, start: usize) -> usize {
        let from_start = self.0.unbounded_shr(8 * start as u32);
        let plain = match plain_bytes_of_word(from_start as u64) {
            WORD_BYTES => WORD_BYTES + plain_bytes_of_word((from_start >> 64) as u64),
            plain => plain,
        };
        plain.min(VECTOR_BYTES - start)
    }

    pub(crate) fn is_ascii(self) -> bool {
        self.0.to_le_bytes().is_ascii()
    }
}

/// Whether all bytes of a block are plain, and, if so, whether they are ASCII. The compiler makes vector instructions of
/// the loop.
#[cfg(not(target_feature = "simd128"))]
pub(crate) fn plain_block(block: &[u8; BLOCK_BYTES]) -> Option<bool> {
    let special = |any, byte: &u8| any | u8::from(!is_plain(*byte));
    (block.iter().fold(0, special) == 0).then(|| block.is_ascii())
}

#[cfg(not(target_feature = "simd128"))]
const WORD_BYTES: usize = 8;

/// The number of plain bytes from the lowest one to the first that is not.
#[cfg(not(target_feature = "simd128"))]
fn plain_bytes_of_word(word: u64) -> usize {
    const ONES: u64 = u64::from_le_bytes([0x01; WORD_BYTES]);
    const HIGH: u64 = u64::from_le_bytes([0x80; WORD_BYTES]);
    // The lowest byte below `least` has its high bit set, as may have higher ones.
    let below = |word: u64, least: u8| word.wrapping_sub(ONES * u64::from(least)) & !word;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let special = (below(word, 0x20) | is(b'"') | is(b'\\')) & HIGH;
    special.trailing_zeros() as usize / 8
}
