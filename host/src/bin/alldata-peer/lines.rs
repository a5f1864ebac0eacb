//! Reads the lines of an input in batches of bounded size.

use std::io::{self, BufRead, Read as _};

use alldata_peer_protocol::decode::MAX_BODY_BYTES;

/// The longest line in bytes, without its line break: the longest body of a request.
const MAX_LINE_BYTES: usize = MAX_BODY_BYTES;

/// The longest line break in bytes, CRLF.
const MAX_END_BYTES: usize = 2;

/// The size in bytes at which a batch is complete, so that a few of them fit into memory.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// A line without its line break.
pub(crate) struct Line {
    number: u64,
    /// `None` if it is too long.
    text: Option<Vec<u8>>,
    bytes: u64,
}

/// A line has more bytes than the body of a request may have.
#[derive(Debug, thiserror::Error)]
#[error("it has more than {MAX_LINE_BYTES} bytes")]
pub(crate) struct TooLong;

impl Line {
    /// Its number in the input, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The number of its bytes in the input, with the line break.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn text(&self) -> Result<&[u8], TooLong> {
        self.text.as_deref().ok_or(TooLong)
    }
}

/// An input that is read line by line.
pub(crate) struct Lines {
    input: Box<dyn BufRead>,
    max_batch: usize,
    number: u64,
    /// The error after the lines of the last batch.
    pending_error: Option<io::Error>,
}

impl Lines {
    /// The lines of `input`, in batches of at most `max_batch`.
    pub(crate) fn new(input: Box<dyn BufRead>, max_batch: usize) -> Self {
        Self {
            input,
            max_batch,
            number: 0,
            pending_error: None,
        }
    }

    /// The next lines that are not blank; none at the end of the input.
    ///
    /// # Errors
    ///
    /// When the input cannot be read.
    pub(crate) fn next_batch(&mut self) -> io::Result<Vec<Line>> {
        if let Some(error) = self.pending_error.take() {
            return Err(error);
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < self.max_batch && bytes < BATCH_BYTES {
            match self.next_line() {
                Ok(Some(line)) => {
                    bytes += line.text.as_ref().map_or(0, Vec::len);
                    let text = line.text.as_deref().unwrap_or(b"too long");
                    if !text.trim_ascii().is_empty() {
                        batch.push(line);
                    }
                }
                Ok(None) => break,
                Err(error) if batch.is_empty() => return Err(error),
                Err(error) => {
                    self.pending_error = Some(error);
                    break;
                }
            }
        }
        Ok(batch)
    }

    fn next_line(&mut self) -> io::Result<Option<Line>> {
        let mut text = Vec::new();
        let max = (MAX_LINE_BYTES + MAX_END_BYTES) as u64;
        let read = (&mut self.input).take(max).read_until(b'\n', &mut text)?;
        if read == 0 {
            return Ok(None);
        }
        let mut bytes = read as u64;
        if text.pop_if(|last| *last == b'\n').is_some() {
            text.pop_if(|last| *last == b'\r');
        } else if bytes == max {
            bytes += self.input.skip_until(b'\n')? as u64;
        }
        self.number += 1;
        Ok(Some(Line {
            number: self.number,
            text: (text.len() <= MAX_LINE_BYTES).then_some(text),
            bytes,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, BufReader, Read};

    use super::{Lines, MAX_LINE_BYTES};

    fn lines(input: Vec<u8>) -> Vec<(u64, Option<usize>)> {
        let mut lines = Lines::new(Box::new(io::Cursor::new(input)), 512);
        let mut all = Vec::new();
        loop {
            let batch = lines.next_batch().expect("reads");
            if batch.is_empty() {
                return all;
            }
            all.extend(
                (batch.iter()).map(|line| (line.number(), line.text().ok().map(<[u8]>::len))),
            );
        }
    }

    #[test]
    fn line_breaks_do_not_count_towards_limit() {
        let longest = vec![b'x'; MAX_LINE_BYTES];
        let longer = vec![b'x'; MAX_LINE_BYTES + 1];
        let most = Some(MAX_LINE_BYTES);
        let input = [
            &longest[..],
            b"\r\n",
            &longest,
            b"\n",
            &longer,
            b"\r\n",
            b"y\n",
        ]
        .concat();
        assert_eq!(
            lines(input),
            [(1, most), (2, most), (3, None), (4, Some(1))]
        );
        for end in [&b""[..], b"\n", b"\r\n"] {
            let far_longer = vec![b'x'; 2 * MAX_LINE_BYTES];
            assert_eq!(lines([&longest[..], end].concat()), [(1, most)]);
            assert_eq!(lines([&longer[..], end].concat()), [(1, None)]);
            assert_eq!(lines([&far_longer[..], end].concat()), [(1, None)]);
        }
    }

    #[test]
    fn blank_lines_are_counted_and_skipped() {
        assert_eq!(
            lines(b"\n \r\na\n\nb".to_vec()),
            [(3, Some(1)), (5, Some(1))]
        );
        assert_eq!(lines(Vec::new()), []);
    }

    #[test]
    fn lines_before_error_are_read() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        }
        let input = io::Cursor::new(b"a\nb\n").chain(Broken);
        let mut lines = Lines::new(Box::new(BufReader::new(input)), 512);
        assert_eq!(lines.next_batch().expect("reads").len(), 2);
        assert!(lines.next_batch().is_err());
    }
}
