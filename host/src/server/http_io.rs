//! The stream under hyper: what is read and written on a connection, where hyper does not tell.
//!
//! Counts the bytes that come, leaves the processor to others now and then, tells when an answer has to
//! wait for its client, has `message_scanner` look for what hyper does not tell of a request, and holds back what hyper answers
//! by itself, in the place of which `parse_error` says more. What the bytes mean beyond that is hyper's to say.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::server::connection_state::ConnectionState;
use crate::server::message_scanner::MessageScanner;

/// How many bytes are read until other tasks get their turn. hyper reads the framing of chunks byte by
/// byte for as long as there is any, which is some milliseconds for as much as this.
const TURN_BYTES: usize = 64 * 1024;

/// A stream that hyper reads and writes.
#[derive(Debug)]
pub(crate) struct HttpIo<S> {
    stream: S,
    state: Arc<ConnectionState>,
    /// How many bytes were read in this turn.
    turn_bytes: usize,
    scanner: MessageScanner,
    /// How many answers of the service were begun to be written.
    answered: usize,
    /// What hyper has answered by itself.
    withheld: Vec<u8>,
}

/// How an answer begins.
const VERSION: &[u8] = b"HTTP/1.";

impl<S> HttpIo<S> {
    pub(crate) fn new(stream: S, state: &Arc<ConnectionState>) -> Self {
        Self {
            stream,
            state: Arc::clone(state),
            turn_bytes: 0,
            scanner: MessageScanner::default(),
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
        self.state.receive(bytes.len() as u64);
        if let Some((request, defect)) = self.scanner.read(bytes) {
            self.state.find_defect(request, defect);
        }
    }

    /// Whether this is an answer of hyper's own, to what it takes for no request. Then none of the
    /// service's is due.
    fn is_own_answer(&mut self, bytes: &[u8]) -> bool {
        let ended = self.state.requests_ended();
        if self.answered != ended {
            self.answered = ended;
            return false;
        }
        let status = bytes.strip_prefix(VERSION).and_then(|rest| rest.get(1..5));
        matches!(status, Some(b" 400" | b" 414" | b" 431"))
            && self.state.requests_started() == ended
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
        if !self.state.is_write_blocked() && self.is_own_answer(bytes) {
            self.withheld.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.state.set_write_blocked(match &written {
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

    use super::HttpIo;
    use crate::server::connection_state::ConnectionState;

    const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";

    #[tokio::test]
    async fn bad_request_of_the_service_that_has_to_wait_is_sent() {
        let (near, mut far) = duplex(ANSWER.len());
        let state = Arc::new(ConnectionState::default());
        let mut io = HttpIo::new(near, &state);
        for _ in 0..2 {
            state.begin_request();
            state.end_request();
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
