//! The stream between hyper and the socket.
//!
//! Counts the bytes that are received, yields to other tasks, records when a write is blocked, passes the
//! bytes to `message_scanner`, and withholds the responses that hyper sends by itself, which `parse_error`
//! replaces.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::server::connection_state::ConnectionState;
use crate::server::message_scanner::MessageScanner;

/// How many bytes are read before the task yields. hyper reads chunk framing byte by byte, which takes some
/// milliseconds for this many bytes.
const YIELD_BYTES: usize = 64 * 1024;

/// A stream that hyper reads and writes.
#[derive(Debug)]
pub(crate) struct HttpIo<S> {
    stream: S,
    state: Arc<ConnectionState>,
    /// How many bytes were read since the task last yielded.
    bytes_since_yield: usize,
    scanner: MessageScanner,
    /// The number of responses of the service that hyper has started to write.
    responses_started: usize,
    /// The response that hyper has made by itself.
    withheld: Vec<u8>,
    /// Whether the last write was not complete.
    is_mid_write: bool,
}

/// The start of a response.
const VERSION: &[u8] = b"HTTP/1.";

impl<S> HttpIo<S> {
    pub(crate) fn new(stream: S, state: &Arc<ConnectionState>) -> Self {
        Self {
            stream,
            state: Arc::clone(state),
            bytes_since_yield: 0,
            scanner: MessageScanner::default(),
            responses_started: 0,
            withheld: Vec::new(),
            is_mid_write: false,
        }
    }

    pub(crate) fn withheld(&self) -> &[u8] {
        &self.withheld
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    fn record_read(&mut self, bytes: &[u8]) {
        self.bytes_since_yield += bytes.len();
        self.state.receive(bytes.len() as u64);
        if let Some((request, defect)) = self.scanner.read(bytes) {
            self.state.record_defect(request, defect);
        }
    }

    /// Whether this is a response that hyper has made by itself, to bytes that it cannot parse as a
    /// request. Then no response of the service is due.
    fn is_made_by_hyper(&mut self, bytes: &[u8]) -> bool {
        let ended = self.state.requests_ended();
        if self.responses_started != ended {
            self.responses_started = ended;
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
        if self.bytes_since_yield >= YIELD_BYTES {
            self.bytes_since_yield = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        match read {
            Poll::Pending => self.bytes_since_yield = 0,
            Poll::Ready(_) => self.record_read(&buffer.filled()[before..]),
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
        // A write that was blocked continues a response of the service.
        if !self.is_mid_write && self.is_made_by_hyper(bytes) {
            self.withheld.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.is_mid_write = match &written {
            Poll::Pending => true,
            Poll::Ready(Ok(length)) => *length < bytes.len(),
            Poll::Ready(Err(_)) => false,
        };
        self.state.set_write_blocked(self.is_mid_write);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        // A stream of TLS has a buffer of its own, so that a write does not block.
        self.state.set_write_blocked(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The response that replaces the withheld one has yet to be written.
        if !self.withheld.is_empty() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll};
    use std::time::Instant;

    use futures_util::FutureExt as _;
    use tokio::io::{
        AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf, duplex,
    };

    use super::HttpIo;
    use crate::server::connection_state::ConnectionState;

    const RESPONSE: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";

    /// A stream that takes bytes, and cannot send them, as one of TLS whose client does not read.
    struct Unread;

    impl AsyncRead for Unread {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Unread {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn pending_flush_is_blocked_write() {
        let state = Arc::new(ConnectionState::default());
        let mut io = HttpIo::new(Unread, &state);
        state.begin_request();
        state.end_request(Instant::now());
        let written = io.write(RESPONSE).now_or_never().expect("is taken");
        assert_eq!(written.expect("writes"), RESPONSE.len());
        assert!(!state.is_write_blocked());
        assert!(io.flush().now_or_never().is_none());
        assert!(state.is_write_blocked() && state.idle_since_ms().is_none());
    }

    #[tokio::test]
    async fn blocked_400_of_service_is_not_withheld() {
        let (near, mut far) = duplex(RESPONSE.len());
        let state = Arc::new(ConnectionState::default());
        let mut io = HttpIo::new(near, &state);
        for _ in 0..2 {
            state.begin_request();
            state.end_request(Instant::now());
            // The second is blocked.
            let _ = io.write(RESPONSE).now_or_never();
        }
        let mut read = vec![0; RESPONSE.len()];
        far.read_exact(&mut read).await.expect("reads");
        let written = io.write(RESPONSE).now_or_never().expect("has room");
        assert_eq!(written.expect("writes"), RESPONSE.len());
        assert_eq!(io.withheld(), b"");
        far.read_exact(&mut read).await.expect("reads");
        assert_eq!(read, RESPONSE);
    }
}
