//! Reads the events of a stream, also while peers put into it.
//!
//! In the order in which they were put, which is that of the stream. Waits for servers that agree on a
//! new leader. Never makes a stream.

use std::fmt::Display;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::Consumer;
use async_nats::jetstream::consumer::pull::{self, OrderedConfig};
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{
    ConsumerError, ConsumerErrorKind, Info, LastRawMessageError, LastRawMessageErrorKind, Stream,
};
use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::compare::compare;
use super::connection::Connection;
use super::message::Stored;
use super::nats_error;
use super::patience::{NO_QUORUM_ADVICE, Patience, advice, is_passing, look_may_pass};
use super::prepare::leader;
use super::replicas::{CATCH_UP_TIME, PAUSE, Replicas, ahead, find, forget, remove, short};
use super::settings::{Unsafe, unsafe_settings};
use super::url::NatsUrl;
use super::version;
use crate::error::Error;
use crate::store::{Event, Verification};

/// How long to wait for the next message of a stream that has one.
const NEXT_TIMEOUT: Duration = Duration::from_secs(15);

/// How many consumers are made until the leader has one: with five replicas it has none in 1 of 10 tries.
const MAX_CONSUMERS: usize = 10;

/// The setting of a stream that is closed for good, which is no fault of one that is only read.
const SEALED: &str = "sealed";

/// The subjects of all messages that a stream can have.
const EVERYTHING: &str = ">";

/// A stream that is there, for reading.
#[derive(Debug)]
pub struct NatsReader {
    url: NatsUrl,
    connection: Connection,
    stream: Stream<()>,
}

/// Why nobody said what a stream has.
enum InfoFailure {
    Refused(GetStreamError),
    NoLeader,
}

impl NatsReader {
    /// Connects to a stream, which has to be there.
    ///
    /// # Errors
    ///
    /// When no server lets one in, or there is no such stream.
    pub async fn connect(url: &NatsUrl) -> Result<Self, Error> {
        let connection = Connection::open(url).await?;
        // What an old server has must be got out of it.
        if let Some(fault) = version::fault(&connection.server()) {
            tracing::warn!(stream = %url, "what is read may not be all that was acknowledged: {fault}");
        }
        let stream = connection.stream(url).await?;
        let reader = Self {
            url: url.clone(),
            connection,
            stream,
        };
        reader.info().await?;
        Ok(reader)
    }

    /// The event under `key`.
    ///
    /// # Errors
    ///
    /// When the stream can't be read, or the event is damaged.
    pub async fn get(&self, key: &str) -> Result<Option<String>, Error> {
        let subject = self.url.prefix.subject(key);
        let Some(held) = self.last(&subject).await? else {
            return Ok(None);
        };
        let headers = Some(&held.headers);
        let stored = Stored::read(&self.url, &held.subject, headers, &held.payload);
        let event = self.whole(stored)?;
        Ok(event.map(|event| event.event))
    }

    /// Whether there is an event under `key`, whatever it is.
    ///
    /// # Errors
    ///
    /// When the stream can't be read.
    pub async fn contains(&self, key: &str) -> Result<bool, Error> {
        let held = self.last(&self.url.prefix.subject(key)).await?;
        Ok(held.is_some())
    }

    /// How many messages there are.
    ///
    /// # Errors
    ///
    /// When the stream can't be read.
    pub async fn count(&self) -> Result<u64, Error> {
        Ok(self.info().await?.state.messages)
    }

    /// Hands the events with keys from `from` to `to`, both included, to `visit`, in the order in
    /// which they were put. All that were stored when it began are among them.
    ///
    /// # Errors
    ///
    /// When the stream can't be read, an event is damaged, or `visit` fails; and after all that is there was visited, when
    /// it is less than was ever stored.
    pub async fn visit<E: From<Error>>(
        &self,
        from: Option<&str>,
        to: Option<&str>,
        mut visit: impl FnMut(Event) -> Result<(), E>,
    ) -> Result<(), E> {
        let info = self.info().await?;
        self.visit_messages(&info, |stored| {
            let Some(event) = self.whole(stored)? else {
                return Ok(());
            };
            let key = event.key.as_str();
            let is_wanted = from.is_none_or(|from| from <= key) && to.is_none_or(|to| key <= to);
            if is_wanted { visit(event) } else { Ok(()) }
        })
        .await?;
        match deleted(&info) {
            None => Ok(()),
            Some(fault) => Err(self.incomplete(fault).into()),
        }
    }

    /// Compares what the replicas have: how many messages, and if `all` is set, or these differ, each message.
    /// `progress` is called with the number of messages of each that were read so far.
    ///
    /// # Errors
    ///
    /// When none of them can be read, or one only in part.
    pub async fn replicas(&self, all: bool, progress: impl FnMut(u64)) -> Result<Replicas, Error> {
        let info = self.info().await?;
        let (found, unread) = find(&self.stream, &info, &self.url).await?;
        let mut faults = short(&found, &info);
        // A leader may store what is committed a moment after the others.
        let end = Instant::now() + CATCH_UP_TIME;
        let mut more = ahead(&found, &self.info().await?);
        while !more.is_empty() && Instant::now() < end {
            sleep(PAUSE).await;
            more = ahead(&found, &self.info().await?);
        }
        faults.extend(more);
        let compared = match all || !faults.is_empty() {
            true => compare(&found, &self.url, progress).await,
            false => Ok(Vec::new()),
        };
        forget(&self.stream, found).await;
        faults.extend(compared?);
        Ok(Replicas { faults, unread })
    }

    /// Recomputes the digest of every event, and holds that the stream is safe and that nothing was
    /// deleted from it. `progress` is called with the number of messages read so far.
    ///
    /// # Errors
    ///
    /// When the stream can't be read.
    pub async fn verify(&self, mut progress: impl FnMut(u64)) -> Result<Verification, Error> {
        let info = self.info().await?;
        let mut found = Verification {
            structure: faults(&info, &self.url),
            ..Verification::default()
        };
        let mut messages = 0;
        let mut foreign = 0_u64;
        let visited = self.visit_messages(&info, |stored| {
            messages += 1;
            match stored {
                Stored::Whole(_) => found.events += 1,
                Stored::Damaged(key) => {
                    found.events += 1;
                    found.damaged.push(key);
                }
                Stored::Foreign => foreign += 1,
            }
            progress(messages);
            Ok::<_, Error>(())
        });
        match visited.await {
            Ok(()) => {}
            Err(Error::IncompleteStream { reason, .. }) => found.structure.push(reason),
            Err(error) => return Err(error),
        }
        if foreign > 0 {
            let all = self.url.prefix.all();
            let line = format!("{foreign} messages have subjects that no key of {all} has");
            found.structure.push(line);
        }
        Ok(found)
    }

    /// What the leader says of the stream: while there is none each server says what it has itself.
    async fn info(&self) -> Result<Info, Error> {
        let info = Patience::of_read().ask(
            |failure: &InfoFailure| match failure {
                InfoFailure::Refused(error) => look_may_pass(&error.kind()),
                InfoFailure::NoLeader => true,
            },
            || self.info_now(),
        );
        info.await.map_err(|failure| match failure {
            InfoFailure::NoLeader => {
                let why = format!("it has no leader{NO_QUORUM_ADVICE}");
                nats_error(&self.url, "read")(&why)
            }
            InfoFailure::Refused(error) => match error.kind() {
                GetStreamErrorKind::JetStream(cause) => self.refused(&cause),
                _ => nats_error(&self.url, "read")(&error),
            },
        })
    }

    async fn info_now(&self) -> Result<Info, InfoFailure> {
        let stream = self.connection.context().get_stream(&self.url.stream).await;
        let info = stream.map_err(InfoFailure::Refused)?.cached_info().clone();
        match info.cluster.is_some() && leader(&info).is_none() {
            true => Err(InfoFailure::NoLeader),
            false => Ok(info),
        }
    }

    fn refused(&self, error: &jetstream::Error) -> Error {
        let advice = advice(error);
        nats_error(&self.url, "read")(&format!("{error}{advice}"))
    }

    /// The last message with one of these subjects, if there is one.
    async fn last(&self, subjects: &str) -> Result<Option<StreamMessage>, Error> {
        let message = Patience::of_read().ask(
            |error: &LastRawMessageError| match error.kind() {
                LastRawMessageErrorKind::JetStream(error) => is_passing(&error),
                kind => kind == LastRawMessageErrorKind::Other,
            },
            || self.stream.get_last_raw_message_by_subject(subjects),
        );
        match message.await {
            Ok(message) => Ok(Some(message)),
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(None),
                LastRawMessageErrorKind::JetStream(cause) => Err(self.refused(&cause)),
                _ => Err(nats_error(&self.url, "read")(&error)),
            },
        }
    }

    /// An event that is as it was put; `None` for what is none.
    fn whole(&self, stored: Stored) -> Result<Option<Event>, Error> {
        match stored {
            Stored::Whole(event) => Ok(Some(event)),
            Stored::Foreign => Ok(None),
            Stored::Damaged(key) => Err(Error::DamagedMessage {
                stream: self.url.to_string(),
                key,
            }),
        }
    }

    /// Hands all messages to `visit` that the stream has by `info`.
    async fn visit_messages<E: From<Error>>(
        &self,
        info: &Info,
        mut visit: impl FnMut(Stored) -> Result<(), E>,
    ) -> Result<(), E> {
        let expected = info.state.messages;
        // What the leader has: whoever delivers may be behind it.
        let Some(last) = self.last(EVERYTHING).await? else {
            return match expected {
                0 => Ok(()),
                _ => Err(self.short(0, expected).into()),
            };
        };
        let last = last.sequence.min(info.state.last_sequence);
        let fail = |read: u64, reason: &dyn Display| {
            let text = format!("{reason}, after {read} of {expected} messages");
            nats_error(&self.url, "read")(&text)
        };
        let mut messages = self.messages(info).await?;
        let mut read = 0;
        while read < expected {
            let next = timeout(NEXT_TIMEOUT, messages.next()).await;
            let next =
                next.map_err(|_elapsed| fail(read, &"the next message did not come in time"))?;
            let message = next.ok_or_else(|| fail(read, &"its messages end"))?;
            let message = message.map_err(|error| fail(read, &error))?;
            let info = message.info().map_err(|error| fail(read, &error))?;
            let sequence = info.stream_sequence;
            if sequence <= last {
                read += 1;
                let headers = message.headers.as_ref();
                visit(Stored::read(
                    &self.url,
                    &message.subject,
                    headers,
                    &message.payload,
                ))?;
            }
            if sequence >= last {
                break;
            }
        }
        match read == expected {
            true => Ok(()),
            false => Err(self.short(read, expected).into()),
        }
    }

    fn short(&self, read: u64, expected: u64) -> Error {
        self.incomplete(format!("{read} of its {expected} messages were delivered"))
    }

    fn incomplete(&self, reason: String) -> Error {
        Error::IncompleteStream {
            stream: self.url.to_string(),
            reason,
        }
    }

    /// The messages, from the leader if servers place the consumer there in one of a few tries: what they
    /// deliver is what their replica has.
    async fn messages(&self, info: &Info) -> Result<pull::Ordered, Error> {
        let fail = nats_error(&self.url, "read");
        let mut tries = 0;
        loop {
            tries += 1;
            let consumer = self.consumer().await?;
            let cluster = consumer.cached_info().cluster.as_ref();
            let host = cluster.and_then(|cluster| cluster.leader.as_deref());
            if host.is_none() || host == leader(info) || tries >= MAX_CONSUMERS {
                return consumer.messages().await.map_err(|error| fail(&error));
            }
            if !remove(&self.stream, &consumer.cached_info().name).await {
                // The next one will do.
                tries = MAX_CONSUMERS;
            }
        }
    }

    async fn consumer(&self) -> Result<Consumer<OrderedConfig>, Error> {
        let consumer = Patience::of_read().ask(
            |error: &ConsumerError| match error.kind() {
                ConsumerErrorKind::JetStream(error) => is_passing(&error),
                kind => matches!(
                    kind,
                    ConsumerErrorKind::TimedOut | ConsumerErrorKind::Request
                ),
            },
            || self.stream.create_consumer(OrderedConfig::default()),
        );
        consumer.await.map_err(|error| match error.kind() {
            ConsumerErrorKind::JetStream(cause) => self.refused(&cause),
            _ => nats_error(&self.url, "read")(&error),
        })
    }
}

/// What is wrong with a stream as a whole.
fn faults(info: &Info, url: &NatsUrl) -> Vec<String> {
    let settings = unsafe_settings(&info.config, url).into_iter();
    let mut faults: Vec<String> = settings
        .filter(|setting| setting.setting != SEALED)
        .map(|setting| {
            let Unsafe {
                setting,
                found,
                needed,
            } = setting;
            format!("its {setting} is {found}, but must be {needed}")
        })
        .collect();
    faults.extend(deleted(info));
    faults
}

/// How many messages are not there any more that once were, if any.
fn deleted(info: &Info) -> Option<String> {
    let state = &info.state;
    let first = info.config.first_sequence.unwrap_or(1).max(1);
    let numbered = state.last_sequence.saturating_add(1).saturating_sub(first);
    let deleted = numbered.saturating_sub(state.messages);
    (deleted > 0).then(|| format!("{deleted} of {numbered} messages were deleted"))
}
