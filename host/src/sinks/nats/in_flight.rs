//! The events that were published over one connection and are not acknowledged yet, and the acknowledgements that
//! come back. Publishing itself is in `pipeline`.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::{Message, StatusCode, SubscribeError, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{oneshot, watch};
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::connection::Connection;
use super::outcome::{Outcome, parse};
use super::server_check::ServerCheck;
use super::url::NatsUrl;

/// How often pending acknowledgements are checked for their deadline.
const TICK: Duration = Duration::from_millis(100);

/// A connection, and the acknowledgements that are pending on it.
pub(super) struct InFlight {
    pub(super) connection: Connection,
    server_check: ServerCheck,
    losses: watch::Receiver<u64>,
    stream: String,
    /// The start of the reply subjects.
    inbox: String,
    acks: Subscriber,
    /// By the number at the end of the reply subject.
    pending: HashMap<u64, PendingAck>,
}

/// A publish that waits for its acknowledgement.
pub(super) struct PendingAck {
    pub(super) deadline: Instant,
    pub(super) outcome: oneshot::Sender<Outcome>,
}

impl InFlight {
    /// # Errors
    ///
    /// When the connection is closed.
    pub(super) async fn open(
        url: &NatsUrl,
        connection: Connection,
    ) -> Result<Self, SubscribeError> {
        let inbox = connection.client.new_inbox();
        let acks = connection.client.subscribe(format!("{inbox}.*")).await?;
        Ok(Self {
            server_check: ServerCheck::new(&connection, url),
            losses: connection.losses(),
            connection,
            stream: url.stream.clone(),
            inbox,
            acks,
            pending: HashMap::new(),
        })
    }

    /// Why nothing may be published now, if so.
    pub(super) fn fault(&mut self) -> Option<String> {
        let fault = self.server_check.fault(&self.connection);
        fault.map(str::to_owned)
    }

    /// The reply subject of the publish with this number.
    pub(super) fn reply_to(&self, number: u64) -> String {
        format!("{}.{number}", self.inbox)
    }

    /// Adds a publish that was sent.
    pub(super) fn insert(&mut self, number: u64, pending: PendingAck) {
        self.pending.insert(number, pending);
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Waits for acknowledgements, or for the loss of the connection, and resolves what is pending by them. False when
    /// the connection is closed.
    pub(super) async fn receive(&mut self) -> bool {
        tokio::select! {
            biased;
            // What was published over a lost connection is not acknowledged over the next one.
            changed = self.losses.changed() => match changed {
                Ok(()) => self.fail_all(),
                Err(_ended) => return false,
            },
            ack = self.acks.next() => match ack {
                Some(ack) => {
                    self.resolve(&ack);
                    self.resolve_ready();
                }
                None => return false,
            },
        }
        true
    }

    /// Runs until nothing is pending any more.
    pub(super) async fn drain(mut self) {
        let mut tick = ticks();
        while !self.is_empty() {
            tokio::select! {
                is_open = self.receive() => if !is_open {
                    return;
                },
                _ = tick.tick() => self.expire(),
            }
        }
    }

    /// Resolves by all acknowledgements that have come.
    fn resolve_ready(&mut self) {
        while let Some(Some(ack)) = unconstrained(self.acks.next()).now_or_never() {
            self.resolve(&ack);
        }
    }

    fn resolve(&mut self, ack: &Message) {
        let number = ack.subject.rsplit('.').next();
        let number = number.and_then(|number| number.parse::<u64>().ok());
        let pending = number.and_then(|number| self.pending.remove(&number));
        let Some(pending) = pending else {
            // It came after its deadline.
            return;
        };
        pending.resolve(match ack.status {
            Some(StatusCode::NO_RESPONDERS) => Outcome::NoResponders,
            _ => parse(&ack.payload, &self.stream),
        });
    }

    /// Resolves all that is pending as unknown.
    fn fail_all(&mut self) {
        self.resolve_ready();
        for (_, pending) in self.pending.drain() {
            pending.resolve(Outcome::Unknown);
        }
    }

    /// Resolves what has passed its deadline as unknown.
    pub(super) fn expire(&mut self) {
        let now = Instant::now();
        let expired = self
            .pending
            .extract_if(|_, pending| pending.is_expired(now));
        for (_, pending) in expired {
            pending.resolve(Outcome::Unknown);
        }
    }
}

impl PendingAck {
    /// Whether the put was dropped.
    pub(super) fn is_abandoned(&self) -> bool {
        self.outcome.is_closed()
    }

    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.deadline <= now || self.is_abandoned()
    }

    pub(super) fn resolve(self, outcome: Outcome) {
        // A put that was dropped needs no outcome.
        let _ = self.outcome.send(outcome);
    }
}

/// When to check the deadlines.
pub(super) fn ticks() -> Interval {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
