//! The sink: puts events into a stream, and resolves what was not answered.
//!
//! Never acknowledges before the stream has, and never decides on its own that a key is free.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alldata_peer_protocol::same_event::same_event;
use async_nats::jetstream::stream::{Info, LastRawMessageErrorKind};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::connection::Connection;
use super::health::{Health, Trouble};
use super::identity::Identity;
use super::message::{Outgoing, Stored};
use super::nats_error;
use super::patience::Patience;
use super::pipeline::Pipeline;
use super::prepare::{check_login, leader, prepare};
use super::reply::Reply;
use super::room::Room;
use super::url::NatsUrl;
use super::version;
use super::watch::{ADVICE, Watched};
use crate::error::Error;
use crate::sink::comparison::{Comparison, HeldId, SMALL_BYTES};
use crate::sink::group_commit::QueueLimits;
use crate::sink::reason::Reason;
use crate::sink::unavailable_reasons::UnavailableReasons;
use crate::sink::{BoxSink, PutError, PutSink};
use crate::store::{Event, digest};

/// How long servers may take to be there that are started together with this program.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// How long to wait for an acknowledgement, which takes milliseconds, before the event is published
/// once more.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a put may take with all its attempts: less than a server waits for a sink.
const PUT_TIME: Duration = Duration::from_secs(20);

/// How many puts may read at a time what their keys hold, which may be as large as any event however
/// small theirs are.
const MAX_READS: usize = 16;

/// How long to wait before the next attempt.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// After how many seconds a put may be tried again that the stream could not take.
const RETRY_SECONDS: u32 = 5;

/// After how many seconds a put may be tried again where there was no room for it here.
const ROOM_RETRY_SECONDS: u32 = 1;

/// After how many seconds a put may be tried again that found the stream full: somebody has to make
/// room first.
const FULL_RETRY_SECONDS: u32 = 60;

/// After how many seconds a put may be tried again where the stream may have lost events: somebody has to look at
/// it, and to start this server again.
const SUSPECT_RETRY_SECONDS: u32 = 60;

/// A stream of NATS JetStream; see [`nats`](crate::nats).
///
/// A put is acknowledged once a quorum of the stream's replicas has acknowledged it. Many are in
/// flight at a time over one connection. Where an acknowledgement is lost, the event is published
/// again, which the stream refuses if it has it, and then what it has is read.
#[derive(Debug)]
pub struct NatsSink {
    url: NatsUrl,
    /// That which new events go out on.
    connection: watch::Receiver<Connection>,
    /// The last sequence number that is known of the stream, which never gives one out again.
    last: Arc<AtomicU64>,
    /// How many servers kept an event when this was made.
    replicas: usize,
    room: Room,
    pipeline: Pipeline,
    health: Arc<Health>,
    comparison: Comparison,
    /// Those that read what a key holds.
    reads: Semaphore,
    /// Why puts were unavailable.
    reasons: Arc<UnavailableReasons>,
    watcher: JoinHandle<()>,
}

impl NatsSink {
    /// Connects, and makes the stream if it is not there, on the Tokio runtime that this is awaited
    /// in.
    ///
    /// # Errors
    ///
    /// When no server lets one in, the stream can't be made, or it could lose or overwrite events.
    pub async fn connect(url: &NatsUrl) -> Result<Self, Error> {
        Self::connect_with_queue(url, QueueLimits::default()).await
    }

    /// The same with other limits of what may wait for the stream.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Self::connect).
    pub async fn connect_with_queue(url: &NatsUrl, limits: QueueLimits) -> Result<Self, Error> {
        let patience = Patience::of_start();
        let connection = Connection::open_within(url, CONNECT_TIME).await?;
        let (connection, info) = choose(connection, url, patience).await?;
        check_login(&connection, url).await?;
        let (current, connection) = watch::channel(connection);
        let pipeline = Pipeline::start(url, connection.clone()).await;
        let pipeline = pipeline.map_err(|error| nats_error(url, "use")(&error))?;
        let health = Arc::new(Health::default());
        let reasons = Arc::<UnavailableReasons>::default();
        let last = Arc::new(AtomicU64::new(info.state.last_sequence));
        let watched = Watched {
            url: url.clone(),
            identity: Identity::of(&info),
            last: Arc::clone(&last),
            messages: info.state.messages,
            health: Arc::clone(&health),
            connection: current,
        };
        Ok(Self {
            url: url.clone(),
            connection,
            last,
            replicas: info.config.num_replicas,
            room: Room::new(limits),
            pipeline,
            health,
            comparison: Comparison::noting_in(Arc::clone(&reasons)),
            reads: Semaphore::new(MAX_READS),
            reasons,
            watcher: tokio::spawn(watched.watch()),
        })
    }

    /// Publishes until it is known what became of the event, or no more time is left for that.
    ///
    /// Comparing is seldom and takes much room, which each put would have to be given: hence the box.
    async fn resolve(&self, key: &str, message: &Outgoing) -> Result<(), PutError> {
        let end = Instant::now() + PUT_TIME;
        let mut may_be_stored = false;
        let mut timeout = ACK_TIMEOUT;
        let mut trying_again = None;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let answer = match self.attempt(message, timeout.min(left)).await {
                Reply::Stored(_) => Some(Ok(())),
                Reply::Taken => Box::pin(self.compare(key, message)).await,
                Reply::NoResources(_) if self.replicas > 1 => {
                    may_be_stored = true;
                    None
                }
                // Of one replica the word is enough.
                Reply::Full(_) | Reply::NoResources(_) => {
                    match Box::pin(self.compare(key, message)).await {
                        None if !may_be_stored => Some(Err(self.full())),
                        known => known,
                    }
                }
                Reply::TooLarge if !may_be_stored => Some(Err(self.too_large())),
                Reply::Refused(reason) if !may_be_stored => Some(Err(PutError::Failed(reason))),
                Reply::Silence | Reply::NotWritten(_) => {
                    may_be_stored = true;
                    None
                }
                Reply::Nobody | Reply::NotNow(_) | Reply::TooLarge | Reply::Refused(_) => None,
            };
            if let Some(answer) = answer {
                return answer;
            }
            trying_again.get_or_insert_with(|| self.health.try_again());
            // What waits for very long is not helped by being sent ever more often.
            timeout = timeout.saturating_mul(2);
            if Instant::now() + RETRY_PAUSE >= end || !self.health.admits_again(may_be_stored) {
                return Err(match may_be_stored {
                    true => PutError::Unknown,
                    false => self.unavailable(),
                });
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Publishes once.
    async fn attempt(&self, message: &Outgoing, timeout: Duration) -> Reply {
        let last = self.last.load(Ordering::Relaxed);
        let reply = self.pipeline.publish(message, timeout).await;
        if let Reply::Stored(sequence) = reply {
            if sequence <= last {
                if self.health.suspect() {
                    tracing::error!(
                        stream = %self.url,
                        "the stream takes no events any more: it is another, or has lost what it had: an event was stored as number {sequence}, but {last} was there before: {ADVICE}"
                    );
                }
                return Reply::Silence;
            }
            self.last.fetch_max(sequence, Ordering::Relaxed);
        }
        match &reply {
            Reply::Stored(_) => self.health.stored(),
            Reply::Full(why) => self.health.full(why),
            Reply::NoResources(why) if self.replicas > 1 => {
                let why = format!("its servers have no room: {why}");
                self.health.failed(Trouble::full(why));
            }
            Reply::NoResources(why) => self.health.full(why),
            Reply::Nobody => self.health.failed(Trouble::new("it has no leader")),
            Reply::Silence => self.health.failed(Trouble::new("it does not answer")),
            Reply::NotNow(reason) | Reply::NotWritten(reason) => {
                self.health.failed(Trouble::new(reason));
            }
            // What it has is compared, whether or not it takes more.
            Reply::Taken => {}
            // It is this event's own affair.
            Reply::TooLarge | Reply::Refused(_) => {}
        }
        reply
    }

    /// What a key that is taken holds is the answer. `None` where that could not be read, or is not
    /// there after all.
    async fn compare(&self, key: &str, message: &Outgoing) -> Option<Result<(), PutError>> {
        // A stream never has another event under a key. Only a conflict is told without looking again.
        let subject = *blake3::hash(message.subject.as_bytes()).as_bytes();
        if self
            .comparison
            .is_known_to_differ(message.event(), &subject)
        {
            return Some(Err(PutError::Conflict));
        }
        // The turns are never closed.
        let _turn = self.reads.acquire().await.ok()?;
        // The leader answers, which has said that the key is taken. The client bounds the wait for the answer, not that for its own queue.
        let connection = self.connection.borrow().clone();
        let stream = connection.stream(&self.url).await.ok()?;
        let held = stream.get_last_raw_message_by_subject(&message.subject);
        let held = tokio::time::timeout(ACK_TIMEOUT, held).await.ok()?;
        let held = match held {
            Ok(held) => held,
            // That a read takes its time is no sign that nothing can be put.
            Err(error) => {
                if let LastRawMessageErrorKind::JetStream(error) = error.kind() {
                    self.health.failed(Trouble::new(error.to_string()));
                }
                return None;
            }
        };
        match Stored::read(&self.url, &held.subject, Some(&held.headers), &held.payload) {
            Stored::Whole(held) => Some(self.compare_events(message, held, subject).await),
            Stored::Damaged(_) | Stored::Foreign => {
                let reason = format!(
                    "what the key {key:?} holds is damaged, or was not put by a peer; `alldata-peer verify` finds all such"
                );
                Some(Err(PutError::Failed(reason)))
            }
        }
    }

    async fn compare_events(
        &self,
        message: &Outgoing,
        held: Event,
        subject: HeldId,
    ) -> Result<(), PutError> {
        let sent = message.event();
        let is_same = if held.event == sent {
            true
        } else if held.event.len().max(sent.len()) <= SMALL_BYTES {
            same_event(&held.event, sent)
        } else {
            let id = digest(&held.key, &held.event);
            let read_held = move || Ok(held.event);
            let is_same = self.comparison.is_same(sent.to_owned(), id, read_held);
            let is_same = is_same.await?;
            self.comparison.know_as(&id, subject);
            is_same
        };
        match is_same {
            true => Ok(()),
            false => Err(PutError::Conflict),
        }
    }

    fn too_large(&self) -> PutError {
        let most = self.connection.borrow().client.max_payload();
        PutError::Rejected(format!(
            "The event is too large: the stream takes messages of up to {most} bytes, or less where it is set to."
        ))
    }
}

impl NatsSink {
    /// A put was not taken, and nobody could say why before it was tried.
    fn unavailable(&self) -> PutError {
        if self.health.is_suspect() {
            return unavailable(SUSPECT_RETRY_SECONDS);
        }
        match self.health.is_full() {
            true => self.full(),
            false => unavailable(RETRY_SECONDS),
        }
    }

    fn full(&self) -> PutError {
        self.reasons.note(Reason::StreamFull);
        unavailable(FULL_RETRY_SECONDS)
    }
}

/// The connection to use of those to the servers of the URL: the leader takes events with less work for all than another
/// server that hands them on. All of the servers have to be ones that keep what they acknowledge.
async fn choose(
    connection: Connection,
    url: &NatsUrl,
    patience: Patience,
) -> Result<(Connection, Info), Error> {
    let others = connection.others(url).await;
    for connection in others.iter().chain([&connection]) {
        let fault = version::fault(&connection.server());
        if let Some(fault) = version::unless_insisted(fault, url) {
            return Err(nats_error(url, "put into")(&fault));
        }
    }
    let info = prepare(&connection, url, patience).await?;
    if let Some(leader) = leader(&info)
        && connection.server().server_name != leader
        && let Some(other) = others
            .into_iter()
            .find(|other| other.server().server_name == leader)
        && other.offer_all(url).await
    {
        // What is safe also depends on the server.
        let info = prepare(&other, url, patience).await?;
        return Ok((other, info));
    }
    Ok((connection, info))
}

impl PutSink for NatsSink {
    async fn put(&self, key: String, event: String) -> Result<(), PutError> {
        let _place = self.room.take(key.len() + event.len()).map_err(|reason| {
            self.reasons.note(reason);
            unavailable(ROOM_RETRY_SECONDS)
        })?;
        if !self.health.admits() {
            return Err(self.unavailable());
        }
        let message = Outgoing::new(&self.url, &key, event);
        self.resolve(&key, &message).await
    }

    fn boxed(self) -> BoxSink {
        let reasons = Arc::clone(&self.reasons);
        BoxSink::with_reasons(self, reasons)
    }
}

impl Drop for NatsSink {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

fn unavailable(retry_after_seconds: u32) -> PutError {
    PutError::Unavailable {
        retry_after_seconds,
    }
}
