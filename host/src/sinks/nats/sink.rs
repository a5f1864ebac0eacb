//! The sink: puts events into a stream, and resolves puts that were not acknowledged.
//!
//! A put succeeds only by an acknowledgement of the stream, or by reading its event back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::conflict::{Compared, ConflictCheck};
use super::connect::connect;
use super::connection::Connection;
use super::error::nats_error;
use super::failure::Failure;
use super::health::Health;
use super::identity::Identity;
use super::message::OutgoingEvent;
use super::outcome::Outcome;
use super::pipeline::Pipeline;
use super::quota::Quota;
use super::url::NatsUrl;
use super::watcher::{ADVICE, PastConnects, StreamWatcher};
use crate::error::Error;
use crate::metrics::sink_metrics::{SinkMetrics, StreamMetrics, StreamState};
use crate::sink::comparison::Comparison;
use crate::sink::group_commit::QueueLimits;
use crate::sink::reason::Reason;
use crate::sink::unavailable_reasons::UnavailableReasons;
use crate::sink::{
    BUSY_RETRY_SECONDS, BoxSink, OPERATOR_RETRY_SECONDS, PutError, PutSink, SinkInternals,
};

/// How long to wait for an acknowledgement, which takes milliseconds, before the event is published again.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a put may take with all attempts: less than the default sink time-out of a server.
const PUT_TIME: Duration = Duration::from_secs(20);

/// The pause before the next attempt.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// `Retry-After` where the stream takes no events now.
const RETRY_SECONDS: u32 = 5;

/// A stream of NATS JetStream; see [`nats`](crate::sinks::nats).
///
/// A put succeeds once a quorum of the stream's replicas has acknowledged it. Many puts are in flight at a time over one
/// connection. If an acknowledgement is lost, the event is published again; if the stream refuses it because it has a
/// message under that key, that message is read and compared.
#[derive(Debug)]
pub struct NatsSink {
    url: NatsUrl,
    /// The connection that new events are sent over.
    connection: watch::Receiver<Connection>,
    /// The last sequence number that is known of the stream, which never assigns one twice.
    last: Arc<AtomicU64>,
    /// The number of replicas at the start.
    replicas: usize,
    quota: Quota,
    pipeline: Pipeline,
    health: Arc<Health>,
    conflicts: ConflictCheck,
    /// The reasons why puts were unavailable.
    reasons: Arc<UnavailableReasons>,
    connects: Arc<PastConnects>,
    watcher: JoinHandle<()>,
}

impl NatsSink {
    /// Connects, and creates the stream if it does not exist, on the Tokio runtime that this is awaited in.
    ///
    /// # Errors
    ///
    /// When no server accepts, the stream can't be created, or it could lose or overwrite events.
    pub async fn connect(url: &NatsUrl) -> Result<Self, Error> {
        Self::connect_with_queue(url, QueueLimits::default()).await
    }

    /// The same with other limits of the puts in progress.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Self::connect).
    pub async fn connect_with_queue(url: &NatsUrl, limits: QueueLimits) -> Result<Self, Error> {
        let (connection, info) = connect(url).await?;
        let (current, connection) = watch::channel(connection);
        let pipeline = Pipeline::start(url, connection.clone()).await;
        let pipeline = pipeline.map_err(|error| nats_error(url, "use")(&error))?;
        let health = Arc::new(Health::default());
        let reasons = Arc::<UnavailableReasons>::default();
        let last = Arc::new(AtomicU64::new(info.state.last_sequence));
        let connects = Arc::<PastConnects>::default();
        // The stream was just asked for.
        connects.has_leader.set(1);
        let watcher = StreamWatcher {
            connects: Arc::clone(&connects),
            url: url.clone(),
            identity: Identity::of(&info),
            last: Arc::clone(&last),
            messages: info.state.messages,
            health: Arc::clone(&health),
            connection: current,
        };
        Ok(Self {
            url: url.clone(),
            connection: connection.clone(),
            last,
            replicas: info.config.num_replicas,
            quota: Quota::new(limits),
            pipeline,
            health,
            conflicts: ConflictCheck::new(
                url,
                connection,
                Comparison::with_reasons(Arc::clone(&reasons)),
            ),
            reasons,
            connects,
            watcher: tokio::spawn(watcher.run()),
        })
    }

    /// Publishes until the outcome is known, or the time of the put has elapsed.
    ///
    /// The future of a comparison is boxed: it is large, and rarely needed.
    async fn resolve(&self, key: &str, message: &OutgoingEvent) -> Result<(), PutError> {
        let end = Instant::now() + PUT_TIME;
        let mut may_be_stored = false;
        let mut timeout = ACK_TIMEOUT;
        let mut retry_guard = None;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let result = match self.attempt(message, timeout.min(left)).await {
                Outcome::Stored(_) => Some(Ok(())),
                Outcome::SubjectExists => Box::pin(self.compare(key, message)).await,
                Outcome::NoResources(_) if self.replicas > 1 => {
                    may_be_stored = true;
                    None
                }
                // With one replica its own answer decides.
                Outcome::Full(_) | Outcome::NoResources(_) => {
                    match Box::pin(self.compare(key, message)).await {
                        None if !may_be_stored => Some(Err(self.full())),
                        known => known,
                    }
                }
                Outcome::TooLarge if !may_be_stored => Some(Err(self.too_large())),
                Outcome::Rejected(reason) if !may_be_stored => Some(Err(PutError::Failed(reason))),
                Outcome::Unknown | Outcome::WriteFailed(_) => {
                    may_be_stored = true;
                    None
                }
                Outcome::NoResponders
                | Outcome::Unavailable(_)
                | Outcome::TooLarge
                | Outcome::Rejected(_) => None,
            };
            if let Some(result) = result {
                return result;
            }
            retry_guard.get_or_insert_with(|| self.health.begin_retry());
            // A slow stream is not helped by more attempts.
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
    async fn attempt(&self, message: &OutgoingEvent, timeout: Duration) -> Outcome {
        let last = self.last.load(Ordering::Relaxed);
        let outcome = self.pipeline.publish(message, timeout).await;
        if let Outcome::Stored(sequence) = outcome {
            if sequence <= last {
                if self.health.mark_suspect() {
                    tracing::error!(
                        stream = %self.url,
                        "the stream takes no events any more: it is another, or has lost what it had: an event was stored as number {sequence}, but {last} was there before: {ADVICE}"
                    );
                }
                return Outcome::Unknown;
            }
            self.last.fetch_max(sequence, Ordering::Relaxed);
        }
        match &outcome {
            Outcome::Stored(_) => self.health.record_stored(),
            Outcome::Full(why) => self.health.record_full(why),
            Outcome::NoResources(why) if self.replicas > 1 => {
                let why = format!("its servers have no room: {why}");
                self.health.record_failure(Failure::full(why));
            }
            Outcome::NoResources(why) => self.health.record_full(why),
            Outcome::NoResponders => self.health.record_failure(Failure::new("it has no leader")),
            Outcome::Unknown => self
                .health
                .record_failure(Failure::new("it does not answer")),
            Outcome::Unavailable(reason) | Outcome::WriteFailed(reason) => {
                self.health.record_failure(Failure::new(reason));
            }
            // These tell nothing of other events.
            Outcome::SubjectExists => {}
            Outcome::TooLarge | Outcome::Rejected(_) => {}
        }
        outcome
    }

    /// Compares with the stored event. `None` if that could not be read.
    async fn compare(&self, key: &str, message: &OutgoingEvent) -> Option<Result<(), PutError>> {
        match self.conflicts.compare(key, message).await {
            Compared::Same => Some(Ok(())),
            Compared::Different => Some(Err(PutError::Conflict)),
            Compared::Failed(error) => Some(Err(error)),
            Compared::NotRead(reason) => {
                if let Some(reason) = reason {
                    self.health.record_failure(Failure::new(reason));
                }
                None
            }
        }
    }

    fn stream_metrics(&self) -> StreamMetrics {
        let (connection, past) = (self.connection.clone(), Arc::clone(&self.connects));
        StreamMetrics(Box::new(move || {
            let connection = connection.borrow();
            let connects = past.before_current.get() + connection.connects();
            StreamState {
                is_connected: connection.is_up(),
                has_leader: past.has_leader.get() == 1,
                reconnections: connects.saturating_sub(1),
            }
        }))
    }

    fn too_large(&self) -> PutError {
        let most = self.connection.borrow().client.max_payload();
        PutError::Rejected(format!(
            "The event is too large: the server takes messages of up to {most} bytes; the stream may have a lower limit."
        ))
    }

    /// The error of a put that the stream does not take now.
    fn unavailable(&self) -> PutError {
        if self.health.is_suspect() {
            return unavailable(OPERATOR_RETRY_SECONDS);
        }
        match self.health.is_full() {
            true => self.full(),
            false => unavailable(RETRY_SECONDS),
        }
    }

    fn full(&self) -> PutError {
        self.reasons.record(Reason::StreamFull);
        unavailable(OPERATOR_RETRY_SECONDS)
    }
}

impl PutSink for NatsSink {
    async fn put(&self, key: String, event: String) -> Result<(), PutError> {
        let _permit = self
            .quota
            .try_acquire(key.len() + event.len())
            .map_err(|reason| {
                self.reasons.record(reason);
                unavailable(BUSY_RETRY_SECONDS)
            })?;
        if !self.health.admits() {
            return Err(self.unavailable());
        }
        let message = OutgoingEvent::new(&self.url, &key, event);
        self.resolve(&key, &message).await
    }

    fn health(&self) -> Result<(), String> {
        self.health.describe().map_or(Ok(()), Err)
    }

    fn boxed(self) -> BoxSink {
        let reasons = Arc::clone(&self.reasons);
        let metrics = SinkMetrics {
            queue: Some(self.quota.metrics()),
            stream: Some(self.stream_metrics()),
            ..SinkMetrics::default()
        };
        BoxSink::with_internals(
            self,
            SinkInternals {
                reasons,
                metrics: Some(metrics),
                ..SinkInternals::default()
            },
        )
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
