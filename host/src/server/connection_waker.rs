//! The waker with which hyper is polled. It ignores the wake-up that hyper sends when the last frame of a body with a
//! `Content-Length` is read.
//!
//! hyper wakes the connection after each frame so that it reads the next one; after the last one there is nothing to
//! read. See `docs/upstream/hyper-body-wake.md`.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming};

thread_local! {
    /// Whether this thread is polling a body of hyper.
    static IS_POLLING_BODY: Cell<bool> = const { Cell::new(false) };
    /// The waker that was woken meanwhile.
    static WOKEN: Cell<Option<Arc<ConnectionWaker>>> = const { Cell::new(None) };
}

/// Wakes the task of a connection. While this thread polls a body, [`poll_frame`] decides whether to.
struct ConnectionWaker {
    task: Waker,
}

/// Keeps the waker of a connection, so that it is not allocated for each poll.
#[derive(Default)]
pub(crate) struct WakerCache {
    /// The waker of the task, and the one that wraps it.
    wakers: Option<(Waker, Waker)>,
}

impl WakerCache {
    /// The waker with which to poll the connection in the task of `context`.
    pub(crate) fn wrap(&mut self, context: &Context<'_>) -> &Waker {
        let task = context.waker();
        let cached = self.wakers.take();
        let cached = cached.filter(|(cached, _)| cached.will_wake(task));
        let wakers = self.wakers.insert(cached.unwrap_or_else(|| {
            let waker = ConnectionWaker { task: task.clone() };
            (task.clone(), Arc::new(waker).into())
        }));
        &wakers.1
    }
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        if !IS_POLLING_BODY.get() {
            self.task.wake_by_ref();
        } else if let Some(earlier) = WOKEN.replace(Some(self)) {
            earlier.task.wake_by_ref();
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if IS_POLLING_BODY.get() {
            Arc::clone(self).wake();
        } else {
            self.task.wake_by_ref();
        }
    }
}

/// Polls a body of hyper for its next frame. A wake-up of its connection meanwhile is ignored if the body has then ended.
pub(crate) fn poll_frame(
    body: &mut Incoming,
    context: &mut Context<'_>,
) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
    let polling = PollingBody::begin();
    let polled = Pin::new(&mut *body).poll_frame(context);
    drop(polling);
    if let Some(woken) = WOKEN.take()
        && !body.is_end_stream()
    {
        woken.task.wake_by_ref();
    }
    polled
}

/// Sets [`IS_POLLING_BODY`] until it is dropped, also if the body panics.
struct PollingBody;

impl PollingBody {
    fn begin() -> Self {
        IS_POLLING_BODY.set(true);
        Self
    }
}

impl Drop for PollingBody {
    fn drop(&mut self) {
        IS_POLLING_BODY.set(false);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::{Context, Waker};

    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use http_body_util::Empty;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::{WakerCache, poll_frame};
    use crate::util::wake_counter::WakeCounter;

    /// The smallest read buffer of hyper.
    const READ_BUFFER_BYTES: usize = 8192;

    /// Serves one request. Returns the number of polls until the task is not woken again, and checks that there is a
    /// response.
    async fn polls(request: &str) -> usize {
        let (near, mut far) = duplex(request.len().max(READ_BUFFER_BYTES));
        far.write_all(request.as_bytes()).await.expect("has room");
        let service = service_fn(|request| async {
            let mut body = Request::into_body(request);
            while let Some(frame) = poll_fn(|context| poll_frame(&mut body, context)).await {
                frame.expect("has arrived");
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        let mut http = http1::Builder::new();
        let http = http.max_buf_size(READ_BUFFER_BYTES);
        let mut connection = http.serve_connection(TokioIo::new(near), service);
        let (task, mut cache) = (Arc::new(WakeCounter::default()), WakerCache::default());
        let waker = Waker::from(Arc::clone(&task));
        let (mut polls, mut wakes) = (0, 0);
        while polls == 0 || task.wakes() > wakes {
            wakes = task.wakes();
            let waker = cache.wrap(&Context::from_waker(&waker));
            let polled = connection.poll_unpin(&mut Context::from_waker(waker));
            assert!(polled.is_pending());
            polls += 1;
        }
        let mut status = [0; 12];
        let read = far.read_exact(&mut status).now_or_never();
        read.expect("has responded").expect("is open");
        assert_eq!(&status, b"HTTP/1.1 200");
        polls
    }

    #[tokio::test]
    async fn request_that_has_arrived_takes_one_poll() {
        for body in ["", "body"] {
            let length = body.len();
            let request = format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}");
            assert_eq!(polls(&request).await, 1, "{request}");
        }
    }

    #[tokio::test]
    async fn body_of_several_frames_is_read_to_its_end() {
        let length = 10 * READ_BUFFER_BYTES;
        let body = "a".repeat(length);
        let known = format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}");
        let chunk = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
        let chunked = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
        for request in [known, chunked] {
            assert!(polls(&request).await > 1);
        }
    }
}
