//! Publishes many events over one connection, and tells each what the stream said to it.
//!
//! A task of its own for as long as its sink lives. Events go out in bursts, which cost the servers,
//! and this program, less than the same events one by one. Never tries again, and never takes silence
//! for an answer.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use async_nats::client::{PublishError, PublishErrorKind};
use async_nats::{HeaderMap, Message, StatusCode, Subject, SubscribeError, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep, interval, sleep};

use super::connection::Connection;
use super::message::Outgoing;
use super::reply::{Reply, read};

/// How long an event may wait for others to go out with: a fraction of what a put takes under load.
const MAX_DELAY: Duration = Duration::from_millis(2);

/// How many events may be unanswered at a time: half of what async-nats queues, so that sending one
/// need not wait.
const MAX_UNANSWERED: usize = 1024;

/// How often it is looked for those whose time is over.
const TICK: Duration = Duration::from_millis(100);

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

/// Who waits for what becomes of an event, and until when.
struct Waiter {
    deadline: Instant,
    reply: oneshot::Sender<Reply>,
}

impl Pipeline {
    /// Begins, on the Tokio runtime that this is awaited in.
    ///
    /// # Errors
    ///
    /// When the connection is at its end.
    pub(super) async fn start(
        connection: &Connection,
        stream: &str,
    ) -> Result<Self, SubscribeError> {
        let inbox = connection.client.new_inbox();
        let replies = connection.client.subscribe(format!("{inbox}.*")).await?;
        let (sender, attempts) = mpsc::unbounded_channel();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let running = Running {
            connection: connection.clone(),
            losses: connection.losses(),
            stream: stream.to_owned(),
            inbox,
            attempts,
            replies,
            waiting: Vec::new(),
            unanswered: HashMap::new(),
            sent: 0,
            delay: Box::pin(sleep(MAX_DELAY)),
            tick,
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
    connection: Connection,
    losses: watch::Receiver<u64>,
    stream: String,
    /// What the subject of each answer begins with.
    inbox: String,
    attempts: mpsc::UnboundedReceiver<Attempt>,
    replies: Subscriber,
    /// Those that are not sent yet.
    waiting: Vec<Attempt>,
    /// Those that are, by the number that their answer will have.
    unanswered: HashMap<u64, Waiter>,
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
            let is_idle = !has_waited && self.unanswered.is_empty();
            tokio::select! {
                biased;
                // What was sent over a connection that is gone is not answered over the next.
                changed = self.losses.changed() => match changed {
                    Ok(()) => self.drop_all(),
                    Err(_ended) => return,
                },
                _ = self.tick.tick(), if !is_idle => self.give_up_late(),
                reply = self.replies.next() => match reply {
                    Some(reply) => {
                        self.answer(&reply);
                        self.answer_all();
                    }
                    None => return,
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

    /// Bursts become as large as what is on its way, one that is alone goes at once, and where more waits
    /// than may be on its way, it goes in halves of that.
    fn is_worth_a_burst(&self) -> bool {
        let waiting = self.waiting.len();
        waiting >= self.unanswered.len() && self.room() >= waiting.min(MAX_UNANSWERED / 2)
    }

    fn room(&self) -> usize {
        MAX_UNANSWERED.saturating_sub(self.unanswered.len())
    }

    /// Sends what waits, up to what may be unanswered. The rest waits anew.
    fn send(&mut self) {
        let count = self.waiting.len().min(self.room());
        self.delay.as_mut().reset(Instant::now() + MAX_DELAY);
        // What is sent while there is no connection would go out with the next.
        let is_up = self.connection.is_up();
        for attempt in self.waiting.drain(..count) {
            if !is_up {
                attempt.waiter.answer(no_connection());
                continue;
            }
            if attempt.waiter.has_left() {
                continue;
            }
            self.sent += 1;
            let reply_to = format!("{}.{}", self.inbox, self.sent);
            let sent = self.connection.client.publish_with_reply_and_headers(
                attempt.subject,
                reply_to,
                attempt.headers,
                attempt.payload,
            );
            match unconstrained(sent).now_or_never() {
                Some(Ok(())) => {
                    self.unanswered.insert(self.sent, attempt.waiter);
                }
                Some(Err(error)) => attempt.waiter.answer(not_sent(&error)),
                None => attempt.waiter.answer(too_slow()),
            }
        }
    }

    /// Hands on all answers that have come.
    fn answer_all(&mut self) {
        while let Some(Some(reply)) = unconstrained(self.replies.next()).now_or_never() {
            self.answer(&reply);
        }
    }

    fn answer(&mut self, reply: &Message) {
        let number = reply.subject.rsplit('.').next();
        let number = number.and_then(|number| number.parse::<u64>().ok());
        let waiter = number.and_then(|number| self.unanswered.remove(&number));
        let Some(waiter) = waiter else {
            // It came after its time.
            return;
        };
        waiter.answer(match reply.status {
            Some(StatusCode::NO_RESPONDERS) => Reply::Nobody,
            _ => read(&reply.payload, &self.stream),
        });
    }

    /// What has not been answered by now never is.
    fn drop_all(&mut self) {
        self.answer_all();
        for (_, waiter) in self.unanswered.drain() {
            waiter.answer(Reply::Silence);
        }
    }

    fn give_up_late(&mut self) {
        let now = Instant::now();
        let late = |waiter: &Waiter| waiter.deadline <= now || waiter.has_left();
        for (_, waiter) in self.unanswered.extract_if(|_, waiter| late(waiter)) {
            waiter.answer(Reply::Silence);
        }
        for attempt in self.waiting.extract_if(.., |attempt| late(&attempt.waiter)) {
            attempt.waiter.answer(too_slow());
        }
    }
}

impl Waiter {
    /// Whether nobody waits any more.
    fn has_left(&self) -> bool {
        self.reply.is_closed()
    }

    fn answer(self, reply: Reply) {
        // Whoever has left need not know.
        let _ = self.reply.send(reply);
    }
}

fn not_sent(error: &PublishError) -> Reply {
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => Reply::TooLarge,
        PublishErrorKind::InvalidSubject => Reply::Refused(error.to_string()),
        PublishErrorKind::Send => Reply::NotNow(error.to_string()),
    }
}

fn no_connection() -> Reply {
    Reply::NotNow("there is no connection".to_owned())
}

fn too_slow() -> Reply {
    Reply::NotNow("the connection is too slow".to_owned())
}
