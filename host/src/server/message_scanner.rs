//! Parses the messages on a connection as they arrive, in whatever parts, to find defects that hyper does not
//! report: a fragment in the target, which hyper removes, and an invalid `Content-Length` beside a
//! `Transfer-Encoding`, which hyper ignores.
//!
//! Parses valid messages as hyper does. After a message at which hyper closes the connection, it stops and
//! reports nothing.

use memchr::{memchr, memchr3};

use crate::server::framing_fields::{FieldValue, FramingField, FramingFields, whole_head};
use crate::server::message_part::Part;

/// A defect of a request that hyper accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// Its target has a fragment.
    Fragment,
    /// A length beside its transfer coding is not a number, or there are two that differ.
    Length,
    /// A length beside its transfer coding exceeds [`MAX_LENGTH`].
    TooLarge,
}

/// The largest `Content-Length` that hyper accepts, in bytes: it reserves the two values above.
const MAX_LENGTH: u64 = u64::MAX - 2;

/// Parses the messages of one connection.
#[derive(Debug, Default)]
pub(crate) struct MessageScanner {
    part: Part,
    has_fragment: bool,
    fields: FramingFields,
    /// The number of header sections that have ended.
    requests: usize,
}

impl MessageScanner {
    /// Parses further bytes. Returns the number, from 1, of the first request that has a defect: no request
    /// after it is served.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Option<(usize, Defect)> {
        loop {
            bytes = match (self.part, bytes) {
                (Part::Stopped, _) | (_, []) => return None,
                (Part::Start, _) if let Some((fields, rest)) = whole_head(bytes) => {
                    (self.has_fragment, self.fields) = (false, fields);
                    if let Some(defect) = self.end_head() {
                        return Some(defect);
                    }
                    rest
                }
                (Part::Line, _) => {
                    let end = memchr(b'\n', bytes)?;
                    self.part = Part::FieldStart;
                    &bytes[end + 1..]
                }
                (Part::Method | Part::Target, _) => {
                    let next = memchr3(b' ', b'#', b'\n', bytes)?;
                    self.part = self.request_line(bytes[next]);
                    &bytes[next + 1..]
                }
                (Part::Body(left), _) => {
                    let (left, rest) = skip(left, bytes);
                    self.part = if left > 0 {
                        Part::Body(left)
                    } else {
                        Part::Start
                    };
                    rest
                }
                (Part::ChunkData(left), _) => {
                    let (left, rest) = skip(left, bytes);
                    self.part = match left {
                        0 => Part::ChunkDataCr,
                        left => Part::ChunkData(left),
                    };
                    rest
                }
                (Part::FieldValue(field, value), _) => {
                    let end = memchr(b'\n', bytes);
                    let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
                    let value = part.iter().fold(value, |value, byte| value.push(*byte));
                    let Some((_line_feed, rest)) = rest.split_first() else {
                        self.part = Part::FieldValue(field, value);
                        return None;
                    };
                    self.fields.add(field, value);
                    self.part = Part::FieldStart;
                    rest
                }
                (Part::FieldStart, [b'\r', b'\n', ..]) => &bytes[1..],
                (Part::FieldStart, [b'\n', rest @ ..]) => {
                    if let Some(defect) = self.end_head() {
                        return Some(defect);
                    }
                    rest
                }
                (part, [byte, rest @ ..]) => {
                    self.part = match part {
                        Part::Start | Part::Method | Part::Target => self.request_line(*byte),
                        Part::FieldStart | Part::FieldName(..) => self.field(*byte),
                        part => part.chunk_framing(*byte),
                    };
                    rest
                }
            };
        }
    }

    fn request_line(&mut self, byte: u8) -> Part {
        match (self.part, byte) {
            (Part::Start, b'\r' | b'\n') => Part::Start,
            (Part::Start, _) => {
                self.has_fragment = false;
                self.fields = FramingFields::default();
                Part::Method
            }
            (Part::Method, b' ') => Part::Target,
            (Part::Target, b' ') => Part::Line,
            // A request line without a version is invalid.
            (_, b'\n') => Part::Stopped,
            (Part::Target, byte) => {
                self.has_fragment |= byte == b'#';
                Part::Target
            }
            (part, _) => part,
        }
    }

    fn field(&mut self, byte: u8) -> Part {
        match (self.part, byte) {
            // The CR of the empty line.
            (Part::FieldStart, b'\r') => Part::FieldStart,
            (Part::FieldStart, byte) => match FramingField::starting_with(byte) {
                Some(field) => Part::FieldName(field, 1),
                None => Part::Line,
            },
            (Part::FieldName(field, length), b':') if length == field.name().len() => {
                Part::FieldValue(field, FieldValue::default())
            }
            (Part::FieldName(field, length), byte)
                if field.name().get(length) == Some(&byte.to_ascii_lowercase()) =>
            {
                Part::FieldName(field, length + 1)
            }
            (_, b'\n') => Part::FieldStart,
            _ => Part::Line,
        }
    }

    /// At the end of a header section. Returns its number and its defect, if it has one.
    fn end_head(&mut self) -> Option<(usize, Defect)> {
        self.requests += 1;
        let defect = self.enter_body()?;
        self.part = Part::Stopped;
        Some((self.requests, defect))
    }

    fn enter_body(&mut self) -> Option<Defect> {
        let fields = self.fields;
        let is_chunked = fields.is_chunked();
        self.part = match fields.length {
            _ if fields.has_other_coding => Part::Stopped,
            _ if is_chunked => Part::ChunkStart,
            _ if fields.has_bad_length => Part::Stopped,
            Some(length) if length > 0 => Part::Body(length),
            _ => Part::Start,
        };
        if self.has_fragment {
            return Some(Defect::Fragment);
        }
        match fields.length {
            _ if !is_chunked => None,
            _ if fields.has_bad_length => Some(Defect::Length),
            Some(length) if length > MAX_LENGTH => Some(Defect::TooLarge),
            _ => None,
        }
    }
}

/// Skips up to `length` bytes. Returns the number of bytes left to skip, and the bytes after them.
fn skip(length: u64, bytes: &[u8]) -> (u64, &[u8]) {
    let skipped = usize::try_from(length).map_or(bytes.len(), |length| length.min(bytes.len()));
    (length - skipped as u64, &bytes[skipped..])
}

#[cfg(test)]
mod tests {
    use super::{Defect, MessageScanner};

    /// Valid requests of every framing.
    const VALID: &[u8] = b"\r\nPOST /a?b HTTP/1.1\r\nHost: a\r\nX: /#a HTTP/1.1\r\n\r\n\
        POST /a HTTP/1.1\r\nContent-Length: \t 28 \t\r\ncontent-length: 28\r\n\r\n\
        POST /#a HTTP/1.1\r\nHost: a\r\n\
        POST /a HTTP/1.1\nCache: 1\nTransfer-Encoding: Chunked \n\n\
        15 ;#\r\nPOST /#a HTTP/1.1\r\n\r\n\r\n00\r\n\r\n\
        POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n";

    /// The first defect in these bytes, in whatever parts they arrive.
    #[track_caller]
    fn defect(bytes: &[u8]) -> Option<(usize, Defect)> {
        let read = |length| {
            let mut scanner = MessageScanner::default();
            let defect = bytes.chunks(length).find_map(|part| scanner.read(part));
            (defect, scanner.requests, format!("{:?}", scanner.part))
        };
        let whole = read(bytes.len());
        for length in [1, 2, 3, 7] {
            assert_eq!(read(length), whole, "{}", bytes.escape_ascii());
        }
        whole.0
    }

    #[test]
    fn defect_is_found_after_requests_of_every_framing() {
        assert_eq!(defect(VALID), None);
        for (request, expected) in [
            ("POST /#a HTTP/1.1\r\n\r\n", Some(Defect::Fragment)),
            ("\r\nPOST /a?b#c HTTP/1.1\n\n", Some(Defect::Fragment)),
            ("POST # HTTP/1.0\r\nX: a\r\n\r\n", Some(Defect::Fragment)),
            ("POST#a /b HTTP/1.1\r\n\r\n", None),
            ("POST /#\r\n\r\n", None),
            ("te: chunked\r\ncontent-length: x\r\n\r\n", None),
        ] {
            let expected = expected.map(|defect| (5, defect));
            assert_eq!(
                defect(&[VALID, request.as_bytes()].concat()),
                expected,
                "{request:?}"
            );
        }
    }

    #[test]
    fn lengths_beside_coding_are_checked_in_any_order() {
        for (lengths, expected) in [
            (&["25"][..], None),
            (&["0", "000"], None),
            (&["18446744073709551613"], None),
            (&["18446744073709551614"], Some(Defect::TooLarge)),
            (&["18446744073709551616"], Some(Defect::Length)),
            (&["x"], Some(Defect::Length)),
            (&[""], Some(Defect::Length)),
            (&["+5"], Some(Defect::Length)),
            (&["5, 5"], Some(Defect::Length)),
            (&["5 5"], Some(Defect::Length)),
            (&["5", "6"], Some(Defect::Length)),
            (&["5", "x"], Some(Defect::Length)),
        ] {
            let mut fields: Vec<String> = lengths
                .iter()
                .map(|length| format!("Content-Length: {length}\r\n"))
                .collect();
            for place in 0..=fields.len() {
                fields.insert(place, "Transfer-Encoding: chunked\r\n".to_owned());
                let head = format!("POST / HTTP/1.1\r\n{}\r\n", fields.concat());
                let expected = expected.map(|defect| (1, defect));
                assert_eq!(defect(head.as_bytes()), expected, "{head:?}");
                fields.remove(place);
            }
        }
    }

    #[test]
    fn messages_of_random_pieces_are_read_alike_in_parts() {
        const PIECES: [&str; 22] = [
            "POST / HTTP/1.1\r\n",
            "POST /#a HTTP/1.1\r\n",
            "POST  HTTP/1.1\r\n",
            "POST HTTP/1.1\r\n",
            "POST / HTTP/1.0\r\n",
            "PUT /a HTTP/1.1\r\n",
            "Content-Length: 5\r\n",
            "content-length:7\r\n",
            "Content-Length : 5\r\n",
            "Content-Length: 5 5\r\n",
            "Content-Type: a\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding:\r\n",
            "Trailer: a\r\n",
            "Host: a\r\n",
            " a\r\n",
            "\r\n",
            "\r\n\r\n",
            "\r",
            "\n",
            "12345",
            "0\r\n\r\n",
        ];
        let mut rng = fastrand::Rng::with_seed(1);
        let mut defects = 0;
        for _ in 0..20_000 {
            let mut bytes = PIECES[rng.usize(..PIECES.len() / 3)].to_owned();
            for _ in 0..rng.usize(..12) {
                bytes += PIECES[rng.usize(..PIECES.len())];
            }
            defects += usize::from(defect(bytes.as_bytes()).is_some());
        }
        assert!(defects > 100, "{defects} have a defect");
    }

    /// hyper refuses these by itself, or `framing` does for the coding.
    #[test]
    fn no_defect_is_reported_after_message_that_closes_connection() {
        for message in [
            "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\nContent-Length: x\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: x\r\n\r\n",
            "POST\n",
        ] {
            let bytes = format!("{message}POST /#a HTTP/1.1\r\n\r\n");
            assert_eq!(defect(bytes.as_bytes()), None, "{message:?}");
        }
    }
}
