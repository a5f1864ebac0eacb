//! The stream that hyper reads and writes: records in the state of its connection that a header section has
//! started.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::server::connection_state::ConnectionState;

/// A stream that records in a [`ConnectionState`] that bytes have arrived.
#[derive(Debug)]
pub(crate) struct InstrumentedIo<S> {
    stream: S,
    state: Arc<ConnectionState>,
}

impl<S> InstrumentedIo<S> {
    pub(crate) fn new(stream: S, state: &Arc<ConnectionState>) -> Self {
        Self {
            stream,
            state: Arc::clone(state),
        }
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for InstrumentedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        // Empty lines before a request are not part of it (RFC 9112, section 2.2).
        let is_empty_line = |byte: &u8| matches!(byte, b'\r' | b'\n');
        if !self.state.is_busy() && !buffer.filled()[before..].iter().all(is_empty_line) {
            self.state.begin_head();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for InstrumentedIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
