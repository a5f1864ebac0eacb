//! Publishes many events over one connection, and returns the acknowledgement of each.
//!
//! A task that runs as long as its sink. Events are sent in batches, which cost the servers and this program less than
//! the same events one by one. After a change of the connection new events go out on the new one, while those in
//! flight are finished on the old one: see `in_flight`. Retries are in `sink`.

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
use super::in_flight::{InFlight, PendingAck, ticks};
use super::message::OutgoingEvent;
use super::outcome::Outcome;
use super::url::NatsUrl;

/// How long an event may wait for others of its batch: a fraction of the time that a put takes under load.
const MAX_DELAY: Duration = Duration::from_millis(2);

/// How many events may be in flight: half of the queue of async-nats, so that sending one does not wait.
const MAX_IN_FLIGHT: usize = 1024;

/// Publishes events.
#[derive(Debug)]
pub(super) struct Pipeline {
    /// Bounded by the `quota` of the sink.
    publishes: mpsc::UnboundedSender<Publish>,
    task: JoinHandle<()>,
}

/// An event to be sent once.
struct Publish {
    subject: Subject,
    headers: HeaderMap,
    payload: Bytes,
    pending: PendingAck,
}

impl Pipeline {
    /// Starts the task, on the Tokio runtime that this is awaited in. Events are sent over the latest connection.
    ///
    /// # Errors
    ///
    /// When the connection is closed.
    pub(super) async fn start(
        url: &NatsUrl,
        mut connections: watch::Receiver<Connection>,
    ) -> Result<Self, SubscribeError> {
        let connection = connections.borrow_and_update().clone();
        let in_flight = InFlight::open(url, connection).await?;
        let (sender, publishes) = mpsc::unbounded_channel();
        let publisher = Publisher {
            url: url.clone(),
            connections,
            in_flight,
            publishes,
            batch: Vec::new(),
            sent: 0,
            delay: Box::pin(sleep(MAX_DELAY)),
            tick: ticks(),
        };
        Ok(Self {
            publishes: sender,
            task: tokio::spawn(publisher.run()),
        })
    }

    /// Publishes once, and waits for the acknowledgement. If this is dropped, the event may be sent or not.
    pub(super) async fn publish(&self, message: &OutgoingEvent, timeout: Duration) -> Outcome {
        let (outcome, resolved) = oneshot::channel();
        let publish = Publish {
            subject: message.subject.clone(),
            headers: message.headers(),
            payload: message.payload.clone(),
            pending: PendingAck {
                deadline: Instant::now() + timeout,
                outcome,
            },
        };
        match self.publishes.send(publish) {
            Ok(()) => resolved.await.unwrap_or(Outcome::Unknown),
            Err(_closed) => Outcome::Unavailable("the connection is closed".to_owned()),
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The state of the task.
struct Publisher {
    url: NatsUrl,
    connections: watch::Receiver<Connection>,
    in_flight: InFlight,
    publishes: mpsc::UnboundedReceiver<Publish>,
    /// Those that are not sent yet.
    batch: Vec<Publish>,
    /// How many were sent so far.
    sent: u64,
    /// Elapses when the first of the batch has waited for [`MAX_DELAY`].
    delay: Pin<Box<Sleep>>,
    tick: Interval,
}

impl Publisher {
    /// Runs until the connection is closed or the sink is dropped.
    async fn run(mut self) {
        loop {
            let mut is_due = false;
            let has_batch = !self.batch.is_empty();
            let is_idle = !has_batch && self.in_flight.is_empty();
            tokio::select! {
                biased;
                _ = self.tick.tick(), if !is_idle => self.expire(),
                is_open = self.in_flight.receive() => if !is_open {
                    return;
                },
                changed = self.connections.changed() => match changed {
                    Ok(()) => self.switch_connection().await,
                    Err(_closed) => return,
                },
                received = self.publishes.recv_many(&mut self.batch, MAX_IN_FLIGHT) => {
                    match received {
                        0 => return,
                        _ if has_batch => {}
                        _ => self.delay.as_mut().reset(Instant::now() + MAX_DELAY),
                    }
                }
                () = &mut self.delay, if has_batch => is_due = true,
            }
            if is_due || self.is_worth_sending() {
                self.send_batch();
            }
        }
    }

    /// Takes the new connection. Events in flight are finished on the old one.
    async fn switch_connection(&mut self) {
        let connection = self.connections.borrow_and_update().clone();
        // It fails only when the connection is closed.
        if let Ok(next) = InFlight::open(&self.url, connection).await {
            let old = std::mem::replace(&mut self.in_flight, next);
            tokio::spawn(old.drain());
        }
    }

    /// Whether the batch is as large as the number of events in flight. So a single event goes at once; with more
    /// waiting than may be in flight, half of that limit goes at a time.
    fn is_worth_sending(&self) -> bool {
        let waiting = self.batch.len();
        waiting >= self.in_flight.len() && self.capacity() >= waiting.min(MAX_IN_FLIGHT / 2)
    }

    fn capacity(&self) -> usize {
        MAX_IN_FLIGHT.saturating_sub(self.in_flight.len())
    }

    /// Sends the batch, up to the limit of events in flight. The rest waits.
    fn send_batch(&mut self) {
        let count = self.batch.len().min(self.capacity());
        self.delay.as_mut().reset(Instant::now() + MAX_DELAY);
        // What is sent while there is no connection would go out over the next one.
        let fault = self.in_flight.fault();
        for publish in self.batch.drain(..count) {
            if let Some(fault) = &fault {
                publish.pending.resolve(Outcome::Unavailable(fault.clone()));
                continue;
            }
            if publish.pending.is_abandoned() {
                continue;
            }
            self.sent += 1;
            let sent = self
                .in_flight
                .connection
                .client
                .publish_with_reply_and_headers(
                    publish.subject,
                    self.in_flight.reply_to(self.sent),
                    publish.headers,
                    publish.payload,
                );
            match unconstrained(sent).now_or_never() {
                Some(Ok(())) => self.in_flight.insert(self.sent, publish.pending),
                Some(Err(error)) => publish.pending.resolve(send_error(&error)),
                None => publish.pending.resolve(connection_too_slow()),
            }
        }
    }

    /// Resolves what has passed its deadline, sent or not.
    fn expire(&mut self) {
        self.in_flight.expire();
        let now = Instant::now();
        let is_expired = |publish: &mut Publish| publish.pending.is_expired(now);
        for publish in self.batch.extract_if(.., is_expired) {
            publish.pending.resolve(connection_too_slow());
        }
    }
}

fn send_error(error: &PublishError) -> Outcome {
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => Outcome::TooLarge,
        PublishErrorKind::InvalidSubject => Outcome::Rejected(error.to_string()),
        PublishErrorKind::Send => Outcome::Unavailable(error.to_string()),
    }
}

fn connection_too_slow() -> Outcome {
    Outcome::Unavailable("the connection is too slow".to_owned())
}
