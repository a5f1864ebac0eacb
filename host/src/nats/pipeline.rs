//! Publishes many events over one connection, and tells each what the stream said to it.
//!
//! A task of its own for as long as its sink lives. Events go out in bursts, which cost the servers,
//! and this program, less than the same events one by one. Where there is a better connection, what comes
//! then goes out on that: see `way`. Never tries again, and never takes silence for an answer.

use std::pin::Pin;
use std::time::Duration;

use async_nats::client::{PublishError, PublishErrorKind};
use async_nats::{HeaderMap, Subject, SubscribeError};
use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Interval, Sleep, sleep};

use super::connection::Connection;
use super::message::Outgoing;
use super::reply::Reply;
use super::url::NatsUrl;
use super::way::{Waiter, Way, ticks};

/// How long an event may wait for others to go out with: a fraction of what a put takes under load.
const MAX_DELAY: Duration = Duration::from_millis(2);

/// How many events may be unanswered at a time: half of what async-nats queues, so that sending one
/// need not wait.
const MAX_UNANSWERED: usize = 1024;

/// Sends what it is given.
#[derive(Debug)]
pub(super) struct Pipeline {
    /// As many as may wait for the stream: see `room`.
    attempts: mpsc::UnboundedSender<Attempt>,
    task: JoinHandle<()>,
}

/// An event that is to be sent once.
struct Attempt {
    subject: Subject,
    headers: HeaderMap,
    payload: Bytes,
    waiter: Waiter,
}

impl Pipeline {
    /// Begins, on the Tokio runtime that this is awaited in. Events go out on the last of the
    /// connections that there is.
    ///
    /// # Errors
    ///
    /// When the connection is at its end.
    pub(super) async fn start(
        url: &NatsUrl,
        mut connections: watch::Receiver<Connection>,
    ) -> Result<Self, SubscribeError> {
        let connection = connections.borrow_and_update().clone();
        let way = Way::open(url, connection).await?;
        let (sender, attempts) = mpsc::unbounded_channel();
        let running = Running {
            url: url.clone(),
            connections,
            way,
            attempts,
            waiting: Vec::new(),
            sent: 0,
            delay: Box::pin(sleep(MAX_DELAY)),
            tick: ticks(),
        };
        Ok(Self {
            attempts: sender,
            task: tokio::spawn(running.run()),
        })
    }

    /// Publishes once, and waits for the answer. Dropped before that, the event may go out or not.
    pub(super) async fn publish(&self, message: &Outgoing, timeout: Duration) -> Reply {
        let (reply, answer) = oneshot::channel();
        let attempt = Attempt {
            subject: message.subject.clone(),
            headers: message.headers(),
            payload: message.payload.clone(),
            waiter: Waiter {
                deadline: Instant::now() + timeout,
                reply,
            },
        };
        match self.attempts.send(attempt) {
            Ok(()) => answer.await.unwrap_or(Reply::Silence),
            Err(_ended) => Reply::NotNow("the connection is at its end".to_owned()),
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the task has.
struct Running {
    url: NatsUrl,
    connections: watch::Receiver<Connection>,
    way: Way,
    attempts: mpsc::UnboundedReceiver<Attempt>,
    /// Those that are not sent yet.
    waiting: Vec<Attempt>,
    /// How many have been sent so far.
    sent: u64,
    /// Over when the first of those that wait has waited for [`MAX_DELAY`].
    delay: Pin<Box<Sleep>>,
    tick: Interval,
}

impl Running {
    /// Until the connection ends or the sink is gone.
    async fn run(mut self) {
        loop {
            let mut is_due = false;
            let has_waited = !self.waiting.is_empty();
            let is_idle = !has_waited && self.way.is_idle();
            tokio::select! {
                biased;
                _ = self.tick.tick(), if !is_idle => self.give_up_late(),
                is_open = self.way.receive() => if !is_open {
                    return;
                },
                changed = self.connections.changed() => match changed {
                    Ok(()) => self.switch().await,
                    Err(_ended) => return,
                },
                received = self.attempts.recv_many(&mut self.waiting, MAX_UNANSWERED) => {
                    match received {
                        0 => return,
                        _ if has_waited => {}
                        _ => self.delay.as_mut().reset(Instant::now() + MAX_DELAY),
                    }
                }
                () = &mut self.delay, if has_waited => is_due = true,
            }
            if is_due || self.is_worth_a_burst() {
                self.send();
            }
        }
    }

    /// Takes the new connection. What is on its way over the last one is answered over that.
    async fn switch(&mut self) {
        let connection = self.connections.borrow_and_update().clone();
        // It fails only where the connection is at its end already.
        if let Ok(next) = Way::open(&self.url, connection).await {
            let last = std::mem::replace(&mut self.way, next);
            tokio::spawn(last.finish());
        }
    }

    /// Bursts become as large as what is on its way, one that is alone goes at once, and where more waits
    /// than may be on its way, it goes in halves of that.
    fn is_worth_a_burst(&self) -> bool {
        let waiting = self.waiting.len();
        waiting >= self.way.unanswered() && self.room() >= waiting.min(MAX_UNANSWERED / 2)
    }

    fn room(&self) -> usize {
        MAX_UNANSWERED.saturating_sub(self.way.unanswered())
    }

    /// Sends what waits, up to what may be unanswered. The rest waits anew.
    fn send(&mut self) {
        let count = self.waiting.len().min(self.room());
        self.delay.as_mut().reset(Instant::now() + MAX_DELAY);
        // What is sent while there is no connection would go out with the next.
        let fault = self.way.fault();
        for attempt in self.waiting.drain(..count) {
            if let Some(fault) = &fault {
                attempt.waiter.answer(Reply::NotNow(fault.clone()));
                continue;
            }
            if attempt.waiter.has_left() {
                continue;
            }
            self.sent += 1;
            let sent = self.way.connection.client.publish_with_reply_and_headers(
                attempt.subject,
                self.way.reply_to(self.sent),
                attempt.headers,
                attempt.payload,
            );
            match unconstrained(sent).now_or_never() {
                Some(Ok(())) => self.way.expect(self.sent, attempt.waiter),
                Some(Err(error)) => attempt.waiter.answer(not_sent(&error)),
                None => attempt.waiter.answer(too_slow()),
            }
        }
    }

    fn give_up_late(&mut self) {
        self.way.give_up_late();
        let now = Instant::now();
        let late = |attempt: &mut Attempt| attempt.waiter.is_late(now);
        for attempt in self.waiting.extract_if(.., late) {
            attempt.waiter.answer(too_slow());
        }
    }
}

fn not_sent(error: &PublishError) -> Reply {
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => Reply::TooLarge,
        PublishErrorKind::InvalidSubject => Reply::Refused(error.to_string()),
        PublishErrorKind::Send => Reply::NotNow(error.to_string()),
    }
}

fn too_slow() -> Reply {
    Reply::NotNow("the connection is too slow".to_owned())
}
