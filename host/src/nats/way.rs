//! The way of events over one connection: those that are on it, and what the stream answers to them.
//!
//! Never sends one.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::{Message, StatusCode, SubscribeError, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{oneshot, watch};
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::connection::{Connection, Gate};
use super::reply::{Reply, read};
use super::url::NatsUrl;

/// How often it is looked for those whose time is over.
const TICK: Duration = Duration::from_millis(100);

/// A connection, and the events that were sent over it and are not answered.
pub(super) struct Way {
    pub(super) connection: Connection,
    gate: Gate,
    losses: watch::Receiver<u64>,
    stream: String,
    /// What the subject of each answer begins with.
    inbox: String,
    replies: Subscriber,
    /// By the number that the answer will have.
    unanswered: HashMap<u64, Waiter>,
}

/// Who waits for what becomes of an event, and until when.
pub(super) struct Waiter {
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Reply>,
}

impl Way {
    /// # Errors
    ///
    /// When the connection is at its end.
    pub(super) async fn open(
        url: &NatsUrl,
        connection: Connection,
    ) -> Result<Self, SubscribeError> {
        let inbox = connection.client.new_inbox();
        let replies = connection.client.subscribe(format!("{inbox}.*")).await?;
        Ok(Self {
            gate: connection.gate(url),
            losses: connection.losses(),
            connection,
            stream: url.stream.clone(),
            inbox,
            replies,
            unanswered: HashMap::new(),
        })
    }

    /// Why nothing may be sent now, if so.
    pub(super) fn fault(&mut self) -> Option<String> {
        let fault = self.gate.fault(&self.connection);
        fault.map(str::to_owned)
    }

    /// Where the answer to the event of this number goes.
    pub(super) fn reply_to(&self, number: u64) -> String {
        format!("{}.{number}", self.inbox)
    }

    /// The event of this number was sent.
    pub(super) fn expect(&mut self, number: u64, waiter: Waiter) {
        self.unanswered.insert(number, waiter);
    }

    pub(super) fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.unanswered.is_empty()
    }

    /// Waits for answers, or for the loss of the connection, and hands on which came. False at the end of the connection.
    pub(super) async fn receive(&mut self) -> bool {
        tokio::select! {
            biased;
            // What was sent over a connection that is gone is not answered over the next.
            changed = self.losses.changed() => match changed {
                Ok(()) => self.drop_all(),
                Err(_ended) => return false,
            },
            reply = self.replies.next() => match reply {
                Some(reply) => {
                    self.answer(&reply);
                    self.answer_all();
                }
                None => return false,
            },
        }
        true
    }

    /// Until all are answered that are on the way: nothing is sent any more.
    pub(super) async fn finish(mut self) {
        let mut tick = ticks();
        while !self.is_idle() {
            tokio::select! {
                is_open = self.receive() => if !is_open {
                    return;
                },
                _ = tick.tick() => self.give_up_late(),
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

    pub(super) fn give_up_late(&mut self) {
        let now = Instant::now();
        let late = self.unanswered.extract_if(|_, waiter| waiter.is_late(now));
        for (_, waiter) in late {
            waiter.answer(Reply::Silence);
        }
    }
}

impl Waiter {
    /// Whether nobody waits any more.
    pub(super) fn has_left(&self) -> bool {
        self.reply.is_closed()
    }

    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.deadline <= now || self.has_left()
    }

    pub(super) fn answer(self, reply: Reply) {
        // Whoever has left need not know.
        let _ = self.reply.send(reply);
    }
}

/// When to look for those whose time is over.
pub(super) fn ticks() -> Interval {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
