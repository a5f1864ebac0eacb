//! A request body as it arrives: within its time, at its pace, and with little framing for its data.
//!
//! Knows no bytes but their number. What a body may have of memory is in `body`.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::server::body::BodyLimits;
use crate::server::connection_state::OpenBody;

/// Over how long the pace of a body is measured: lost packets are sent again within that.
const PACE_TIME: Duration = Duration::from_secs(5);

/// How long a body that is late is still read while more of it is there: what came while the server
/// itself stood still is in the system's buffers, and is read in less.
const LATE_TIME: Duration = Duration::from_secs(1);

/// How many read buffers may be full of framing beyond as much of it as there is data. What was read ahead
/// is taken for framing until hyper has looked at it. The rest is for bodies of some 50,000 bytes in
/// chunks of one byte, each of which costs as much as hundreds of bytes of data.
pub(crate) const FRAMING_BUFFERS: u64 = 4;

/// A body of which more may come.
pub(crate) struct Arrival {
    incoming: Incoming,
    open: OpenBody,
    limits: BodyLimits,
    /// The bytes of data that have come.
    data: u64,
    /// The bytes of any kind that had come on the connection when the body began.
    received_before: u64,
    /// Set only when the body has to be waited for: most are there with the head.
    deadline: Option<ReadDeadline>,
}

/// Why a body ends early.
pub(crate) enum Cut {
    /// HTTP says so: its connection was lost, or its chunks are malformed.
    Http(hyper::Error),
    /// It took too long, or came too slowly.
    Late,
    /// Its chunks have too much framing for their data.
    Framing,
}

/// By when a body has to be there, from when it was not all there.
struct ReadDeadline {
    /// For all of it, unless no clock can tell that.
    end: Option<Instant>,
    /// For as much of it as its pace asks for.
    pace_end: Instant,
    /// How much had arrived when its pace was last looked at.
    arrived: u64,
    timer: Pin<Box<Sleep>>,
    /// Since when it is late. It may still have arrived while nobody looked.
    late_since: Option<Instant>,
    /// Whether some of it came since it was last found to be late.
    has_progressed: bool,
}

impl Arrival {
    pub(crate) fn new(incoming: Incoming, open: OpenBody, limits: BodyLimits) -> Self {
        let received_before = open.activity().received();
        Self {
            incoming,
            open,
            limits,
            data: 0,
            received_before,
            deadline: None,
        }
    }

    pub(crate) fn is_chunked(&self) -> bool {
        self.incoming.size_hint().exact().is_none()
    }

    /// Whether its announced length was read.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    pub(crate) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) {
            let frame = frame.map(|frame| frame.map_err(Cut::Http));
            if let Some(Ok(frame)) = &frame {
                self.data += frame.data_ref().map_or(0, Bytes::len) as u64;
                if let Some(deadline) = &mut self.deadline {
                    deadline.has_progressed = true;
                }
            }
            return Poll::Ready(frame);
        }
        if self.is_chunked() {
            let most = self.max_received();
            self.open.activity().wake_body_beyond(most, context);
            if self.open.activity().received() > most {
                return Poll::Ready(Some(Err(Cut::Framing)));
            }
        }
        let limits = self.limits;
        let deadline = self
            .deadline
            .get_or_insert_with(|| ReadDeadline::begin(limits));
        ready!(deadline.poll_late(self.data, limits, context));
        Poll::Ready(Some(Err(Cut::Late)))
    }

    /// Up to how many bytes may have come on the connection: all data once, and the framing, which may be as much and
    /// some more. What follows the body may be among them, up to a read buffer of it.
    fn max_received(&self) -> u64 {
        let framing = self.limits.framing_bytes.saturating_add(self.data);
        let body = framing.saturating_add(self.data);
        self.received_before.saturating_add(body)
    }

    /// Reads on and throws it away for as long as the body may take, so that a client or a proxy that
    /// sends all of it before it reads gets its answer.
    pub(crate) fn drain(mut self) {
        if let Ok(runtime) = Handle::try_current() {
            let tasks = self.open.activity().tasks.clone();
            let drained = async move {
                let mut next = std::future::poll_fn(|context| self.poll_frame(context));
                while let Some(Ok(_)) = (&mut next).await {}
            };
            tasks.spawn_on(drained, &runtime);
        }
    }
}

impl ReadDeadline {
    fn begin(limits: BodyLimits) -> Self {
        let now = Instant::now();
        Self {
            end: now.checked_add(limits.time),
            pace_end: now + PACE_TIME,
            arrived: 0,
            timer: Box::pin(sleep_until(now)),
            late_since: None,
            has_progressed: false,
        }
    }

    /// Ready when a body is too late of which so many bytes have arrived.
    fn poll_late(
        &mut self,
        arrived: u64,
        limits: BodyLimits,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            let pace_end = limits.rate.map(|_| self.pace_end);
            let Some(deadline) = self.end.into_iter().chain(pace_end).min() else {
                return Poll::Pending;
            };
            if self.timer.deadline() != deadline {
                self.timer.as_mut().reset(deadline);
            }
            // Who floods the connection uses up what this task may do at a time, but no time.
            ready!(Pin::new(&mut unconstrained(self.timer.as_mut())).poll(context));
            let is_over = self.end.is_some_and(|end| end <= deadline);
            let least = limits
                .rate
                .map_or(0, |rate| rate.get().saturating_mul(PACE_TIME.as_secs()));
            let now = Instant::now();
            if !is_over && arrived - self.arrived >= least {
                self.arrived = arrived;
                self.pace_end = now + PACE_TIME;
                self.late_since = None;
                continue;
            }
            // A server that stood still sees the end of its patience before what came meanwhile.
            match self.late_since {
                Some(since) if !self.has_progressed || now >= since + LATE_TIME => {
                    return Poll::Ready(());
                }
                _ => {
                    self.late_since.get_or_insert(now);
                    self.has_progressed = false;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::num::NonZeroU64;
    use std::pin::pin;
    use std::task::Poll;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::task::consume_budget;
    use tokio::time::{Instant, advance};

    use super::{LATE_TIME, PACE_TIME, ReadDeadline};
    use crate::server::body::BodyLimits;

    const LIMITS: BodyLimits = BodyLimits {
        bytes: 1000,
        framing_bytes: 1000,
        time: Duration::from_secs(30),
        rate: NonZeroU64::new(100),
    };

    /// Uses up what a task may do at a time, as a flood of bytes does.
    async fn use_up_budget() {
        while consume_budget().now_or_never().is_some() {}
    }

    #[tokio::test(start_paused = true)]
    async fn late_body_ends_in_task_that_never_waits() {
        let mut deadline = ReadDeadline::begin(LIMITS);
        let mut begin = pin!(poll_fn(|context| deadline.poll_late(0, LIMITS, context)));
        assert!(begin.as_mut().now_or_never().is_none());
        advance(PACE_TIME).await;
        use_up_budget().await;
        // Once more is looked for what may have come meanwhile.
        assert!(begin.as_mut().now_or_never().is_none());
        use_up_budget().await;
        assert!(begin.as_mut().now_or_never().is_some());
    }

    /// Data that comes without an end does not buy time without an end.
    #[tokio::test(start_paused = true)]
    async fn data_that_comes_late_buys_little_time() {
        let mut deadline = ReadDeadline::begin(LIMITS);
        advance(LIMITS.time).await;
        let start = Instant::now();
        let mut arrived = 0;
        poll_fn(|context| {
            arrived += 1;
            deadline.has_progressed = true;
            deadline.poll_late(arrived, LIMITS, context)
        })
        .now_or_never();
        while start.elapsed() < LATE_TIME {
            advance(Duration::from_millis(100)).await;
            arrived += 1;
            deadline.has_progressed = true;
            let late = poll_fn(|context| Poll::Ready(deadline.poll_late(arrived, LIMITS, context)));
            let is_late = late.await.is_ready();
            assert_eq!(is_late, start.elapsed() >= LATE_TIME);
        }
    }
}
