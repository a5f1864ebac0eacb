//! The stream under hyper: what is read and written on a connection, where hyper does not tell.
//!
//! Counts the bytes that come, leaves the processor to others now and then, tells when an answer has to
//! wait for its client, sees a fragment in a request target, and holds back what hyper answers by itself, in the place of which `parse_error` says
//! more. What the bytes mean beyond that is hyper's to say.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::activity::Activity;

/// How many bytes are read until other tasks get their turn. hyper reads the framing of chunks byte by
/// byte for as long as there is any, which is some milliseconds for as much as this.
const TURN_BYTES: usize = 64 * 1024;

/// A stream that hyper reads and writes.
#[derive(Debug)]
pub(crate) struct HttpIo<S> {
    stream: S,
    activity: Arc<Activity>,
    /// How many bytes were read in this turn.
    turn_bytes: usize,
    request_line: RequestLine,
    /// How many answers of the service were begun to be written.
    answered: usize,
    /// What hyper has answered by itself.
    withheld: Vec<u8>,
}

/// The first line of a head, as far as it was read.
#[derive(Debug, Default)]
struct RequestLine {
    /// The number of requests before it.
    number: usize,
    part: LinePart,
    has_fragment: bool,
}

#[derive(Debug, Default, Clone, Copy)]
enum LinePart {
    /// Empty lines may come first (RFC 9112, section 2.2).
    #[default]
    Before,
    Method,
    Target,
    /// With so many bytes of [`VERSION`].
    Version(usize),
    /// It has ended, or is none.
    Past,
}

/// How the version begins.
const VERSION: &[u8] = b"HTTP/1.";

impl<S> HttpIo<S> {
    pub(crate) fn new(stream: S, activity: &Arc<Activity>) -> Self {
        Self {
            stream,
            activity: Arc::clone(activity),
            turn_bytes: 0,
            request_line: RequestLine::default(),
            answered: 0,
            withheld: Vec::new(),
        }
    }

    pub(crate) fn withheld(&self) -> &[u8] {
        &self.withheld
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    fn received(&mut self, bytes: &[u8]) {
        self.turn_bytes += bytes.len();
        self.activity.receive(bytes.len() as u64);
        // Otherwise it may be a part of a body.
        if !self.activity.is_busy() && self.request_line.read(self.activity.begun(), bytes) {
            self.activity.see_fragment();
        }
    }

    /// Whether this is an answer of hyper's own, to what it takes for no request. Then none of the
    /// service's is due.
    fn is_own_answer(&mut self, bytes: &[u8]) -> bool {
        let ended = self.activity.ended();
        if self.answered != ended {
            self.answered = ended;
            return false;
        }
        let status = bytes.strip_prefix(VERSION).and_then(|rest| rest.get(1..5));
        matches!(status, Some(b" 400" | b" 414" | b" 431")) && self.activity.begun() == ended
    }
}

impl RequestLine {
    /// Reads on, at the end of so many requests. Returns whether it was found to have a fragment, which
    /// hyper takes away without a word.
    fn read(&mut self, number: usize, bytes: &[u8]) -> bool {
        if self.number != number {
            *self = Self {
                number,
                ..Self::default()
            };
        }
        for byte in bytes {
            self.part = match (self.part, byte) {
                (LinePart::Past, _) => return false,
                (LinePart::Before, b'\r' | b'\n') => LinePart::Before,
                // What came with the end of the last request was not seen: this may be a later line.
                (_, b'\n') | (LinePart::Method, b':') => LinePart::Past,
                (LinePart::Before | LinePart::Method, b' ') => LinePart::Target,
                (LinePart::Before | LinePart::Method, _) => LinePart::Method,
                (LinePart::Target, b' ') if !self.has_fragment => LinePart::Past,
                (LinePart::Target, b' ') => LinePart::Version(0),
                (LinePart::Target, byte) => {
                    self.has_fragment |= *byte == b'#';
                    LinePart::Target
                }
                (LinePart::Version(at), byte) if VERSION[at] != *byte => LinePart::Past,
                (LinePart::Version(at), _) if at + 1 < VERSION.len() => LinePart::Version(at + 1),
                (LinePart::Version(_), _) => {
                    self.part = LinePart::Past;
                    return true;
                }
            };
        }
        false
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HttpIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.turn_bytes >= TURN_BYTES {
            self.turn_bytes = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        match read {
            Poll::Pending => self.turn_bytes = 0,
            Poll::Ready(_) => self.received(&buffer.filled()[before..]),
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HttpIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // What goes on with a write that had to wait is the service's.
        if !self.activity.is_write_blocked() && self.is_own_answer(bytes) {
            self.withheld.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.activity.set_write_blocked(match &written {
            Poll::Pending => true,
            Poll::Ready(Ok(length)) => *length < bytes.len(),
            Poll::Ready(Err(_)) => false,
        });
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // There is something to be said yet.
        if !self.withheld.is_empty() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::{HttpIo, RequestLine};
    use crate::activity::Activity;

    const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";

    #[test]
    fn fragment_is_seen_in_request_target_only() {
        for (line, has_fragment) in [
            ("POST /#a HTTP/1.1\r\n", true),
            ("\r\nPOST /a?b#c HTTP/1.1\r\n", true),
            ("POST # HTTP/1.0\r\n", true),
            ("POST /a HTTP/1.1\r\nX: /#a HTTP/1.1\r\n", false),
            ("POST#a /b HTTP/1.1\r\n", false),
            // Ends of a head that began with the request before it.
            ("X: a #b HTTP/1.1\r\n", false),
            ("a b#c d\r\n", false),
            ("Host: a#b\r\n\r\n", false),
        ] {
            assert_eq!(
                RequestLine::default().read(0, line.as_bytes()),
                has_fragment,
                "{line:?}"
            );
            // However it comes.
            let mut request_line = RequestLine::default();
            let mut bytes = line.as_bytes().chunks(1);
            assert_eq!(
                bytes.any(|byte| request_line.read(0, byte)),
                has_fragment,
                "{line:?}"
            );
        }
    }

    #[test]
    fn request_line_of_next_head_is_read_anew() {
        let mut line = RequestLine::default();
        assert!(!line.read(0, b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(!line.read(0, b"POST /#b HTTP/1.1\r\n"));
        assert!(line.read(1, b"POST /#b HTTP/1.1\r\n"));
    }

    #[tokio::test]
    async fn bad_request_of_the_service_that_has_to_wait_is_sent() {
        let (near, mut far) = duplex(ANSWER.len());
        let activity = Arc::new(Activity::default());
        let mut io = HttpIo::new(near, &activity);
        for _ in 0..2 {
            activity.begin_request();
            activity.end_request();
            // The second finds no room.
            let _ = io.write(ANSWER).now_or_never();
        }
        let mut read = vec![0; ANSWER.len()];
        far.read_exact(&mut read).await.expect("reads");
        let written = io.write(ANSWER).now_or_never().expect("has room");
        assert_eq!(written.expect("writes"), ANSWER.len());
        assert_eq!(io.withheld(), b"");
        far.read_exact(&mut read).await.expect("reads");
        assert_eq!(read, ANSWER);
    }
}
