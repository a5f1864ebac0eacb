//! Coalesces the small chunks of a body into larger frames: a component takes as long for a frame of one byte
//! as for one of some thousand.
//!
//! Data is held back only while more of it is available at once.

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::Frame;

/// How many frames of a body are passed on as they are: most bodies have fewer.
const EAGER_FRAMES: usize = 16;

/// The size in bytes from which a frame is passed on: its bytes then cost more than the frame itself.
const LARGE_FRAME_BYTES: usize = 16 * 1024;

/// Coalesces the frames of one body.
#[derive(Debug, Default)]
pub(crate) struct FrameCoalescer {
    /// How many frames were passed on as they were.
    eager: usize,
    data: BytesMut,
    /// Whether data arrived since the last time that none was available.
    has_more: bool,
    /// The frame after the data, if it is not data itself.
    last: Option<Frame<Bytes>>,
}

impl FrameCoalescer {
    /// Whether there is a frame to be passed on.
    pub(crate) fn has_frame(&self) -> bool {
        !self.data.is_empty() || self.last.is_some()
    }

    /// The next frame, made of those that `poll_one` returns.
    pub(crate) fn poll<E>(
        &mut self,
        context: &mut Context<'_>,
        mut poll_one: impl FnMut(&mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, E>>>,
    ) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        if let Some(last) = self.last.take() {
            return Poll::Ready(Some(Ok(last)));
        }
        loop {
            let frame = match poll_one(context) {
                Poll::Ready(Some(Ok(frame))) => frame,
                // The data before an error is dropped with it.
                Poll::Ready(Some(Err(error))) => {
                    self.data.clear();
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => return Poll::Ready(self.take().map(Ok)),
                Poll::Pending if self.data.is_empty() => return Poll::Pending,
                Poll::Pending if self.has_more => {
                    // hyper returns the next frame when it is polled again, if there is one.
                    self.has_more = false;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Ready(self.take().map(Ok)),
            };
            if self.eager < EAGER_FRAMES {
                self.eager += 1;
                return Poll::Ready(Some(Ok(frame)));
            }
            match frame.into_data() {
                Ok(data) if data.len() >= LARGE_FRAME_BYTES && self.data.is_empty() => {
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(data) => {
                    self.data.extend_from_slice(&data);
                    self.has_more = true;
                    if self.data.len() >= LARGE_FRAME_BYTES {
                        return Poll::Ready(self.take().map(Ok));
                    }
                }
                Err(trailers) => {
                    self.last = Some(trailers);
                    let data = self.take().or_else(|| self.last.take());
                    return Poll::Ready(data.map(Ok));
                }
            }
        }
    }

    /// The coalesced data.
    fn take(&mut self) -> Option<Frame<Bytes>> {
        self.has_more = false;
        let data = self.data.split().freeze();
        (!data.is_empty()).then(|| Frame::data(data))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::poll_fn;
    use std::task::Poll;

    use bytes::Bytes;
    use hyper::HeaderMap;
    use hyper::body::Frame;

    use super::{EAGER_FRAMES, FrameCoalescer, LARGE_FRAME_BYTES};

    /// The results of polling a body, one for each poll.
    type Polls = VecDeque<Option<Result<Frame<Bytes>, &'static str>>>;

    fn data(bytes: usize) -> Option<Result<Frame<Bytes>, &'static str>> {
        Some(Ok(Frame::data(Bytes::from(vec![b'x'; bytes]))))
    }

    /// The sizes of the frames that are passed on, `None` for trailers, up to an error.
    async fn coalesce(mut polls: Polls) -> (Vec<Option<usize>>, Option<&'static str>) {
        let (mut coalescer, mut frames, mut is_asked_again) =
            (FrameCoalescer::default(), vec![], true);
        loop {
            let next = poll_fn(|context| {
                coalescer.poll(context, |context| {
                    is_asked_again = !is_asked_again;
                    if is_asked_again {
                        // The test would wait for ever otherwise.
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Poll::Ready(polls.pop_front().unwrap_or_default())
                })
            });
            match next.await {
                Some(Ok(frame)) => frames.push(frame.data_ref().map(Bytes::len)),
                Some(Err(error)) => return (frames, Some(error)),
                None => return (frames, None),
            }
        }
    }

    #[tokio::test]
    async fn small_frames_are_coalesced() {
        let polls = (0..EAGER_FRAMES + 2 * LARGE_FRAME_BYTES + 5).map(|_| data(1));
        let (frames, error) = coalesce(polls.collect()).await;
        let eager = [Some(1); EAGER_FRAMES];
        let (first, rest) = frames.split_at(EAGER_FRAMES);
        assert_eq!(first, eager);
        let large = Some(LARGE_FRAME_BYTES);
        assert_eq!(rest, [large, large, Some(5)]);
        assert_eq!(error, None);
    }

    #[tokio::test]
    async fn trailers_and_errors_come_after_data() {
        let eager = || (0..EAGER_FRAMES).map(|_| data(1));
        let trailers = Some(Ok(Frame::trailers(HeaderMap::new())));
        let rest = [data(1), data(2), trailers];
        let (frames, error) = coalesce(eager().chain(rest).collect()).await;
        assert_eq!(frames[EAGER_FRAMES..], [Some(3), None]);
        assert_eq!(error, None);
        let rest = [data(LARGE_FRAME_BYTES), data(1), Some(Err("cut"))];
        let (frames, error) = coalesce(eager().chain(rest).collect()).await;
        assert_eq!(frames[EAGER_FRAMES..], [Some(LARGE_FRAME_BYTES)]);
        assert_eq!(error, Some("cut"));
    }
}
