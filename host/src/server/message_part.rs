//! The parts of a message, and how the framing of its chunks is parsed (RFC 9112, section 7.1).

use crate::server::framing_fields::{FieldValue, FramingField};

/// The part of a message that the next byte belongs to.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) enum Part {
    /// Empty lines may come before a request (RFC 9112, section 2.2).
    #[default]
    Start,
    Method,
    Target,
    FieldStart,
    /// The number of bytes of a name that match so far.
    FieldName(FramingField, usize),
    FieldValue(FramingField, FieldValue),
    /// The rest of a line.
    Line,
    /// The number of bytes left of a body.
    Body(u64),
    ChunkStart,
    ChunkSize(u64),
    ChunkExtension(u64),
    ChunkSizeLf(u64),
    ChunkData(u64),
    ChunkDataCr,
    ChunkDataLf,
    TrailersStart,
    EndLf,
    /// hyper closes the connection.
    Stopped,
}

impl Part {
    /// The part after this byte of the framing of a chunk.
    pub(crate) fn chunk_framing(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::ChunkStart, byte) => hexadecimal(0, byte).map_or(Self::Stopped, Self::ChunkSize),
            (Self::ChunkSize(size) | Self::ChunkExtension(size), b'\r') => Self::ChunkSizeLf(size),
            (Self::ChunkSize(size), b' ' | b'\t' | b';') => Self::ChunkExtension(size),
            (Self::ChunkSize(size), byte) => {
                hexadecimal(size, byte).map_or(Self::Stopped, Self::ChunkSize)
            }
            (Self::ChunkExtension(size), _) => Self::ChunkExtension(size),
            (Self::ChunkSizeLf(0), b'\n') => Self::TrailersStart,
            (Self::ChunkSizeLf(size), b'\n') => Self::ChunkData(size),
            (Self::ChunkDataCr, b'\r') => Self::ChunkDataLf,
            (Self::ChunkDataLf, b'\n') => Self::ChunkStart,
            (Self::TrailersStart, b'\r') => Self::EndLf,
            (Self::EndLf, b'\n') => Self::Start,
            // hyper closes the connection after a request with trailers.
            _ => Self::Stopped,
        }
    }
}

/// Appends a hexadecimal digit to `number`; `None` if it is not one, or the number overflows.
fn hexadecimal(number: u64, digit: u8) -> Option<u64> {
    let digit = char::from(digit).to_digit(16)?;
    number.checked_mul(16)?.checked_add(digit.into())
}
