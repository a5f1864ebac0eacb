//! Reads the events of a stream, also while peers put into it.
//!
//! In the order in which they were put. Waits for the election of a leader.

use async_nats::jetstream::stream::{Info, Stream};
use tokio::time::{Instant, sleep};

use super::compare::compare;
use super::connection::Connection;
use super::message::StoredMessage;
use super::messages::{self, incomplete, last_message};
use super::replicas::{
    CATCH_UP_TIME, PAUSE, Replicas, ahead, delete_consumers, lagging, open_replicas,
};
use super::state;
use super::url::NatsUrl;
use super::version;
use crate::error::Error;
use crate::store::{Event, Verification};

/// Reads an existing stream.
#[derive(Debug)]
pub struct NatsReader {
    url: NatsUrl,
    connection: Connection,
    stream: Stream<()>,
}

impl NatsReader {
    /// Connects to an existing stream.
    ///
    /// # Errors
    ///
    /// When no server accepts, or there is no such stream.
    pub async fn connect(url: &NatsUrl) -> Result<Self, Error> {
        let connection = Connection::open(url).await?;
        // Events have to be exportable from an old server.
        if let Some(fault) = version::unsupported(&connection.server()) {
            tracing::warn!(stream = %url, "the stream may lack events that were acknowledged: {fault}");
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
        let Some(held) = last_message(&self.stream, &self.url, &subject).await? else {
            return Ok(None);
        };
        let headers = Some(&held.headers);
        let stored = StoredMessage::read(&self.url, &held.subject, headers, &held.payload);
        let event = self.event(stored)?;
        Ok(event.map(|event| event.event))
    }

    /// Whether there is an event under `key`, whatever it is.
    ///
    /// # Errors
    ///
    /// When the stream can't be read.
    pub async fn contains(&self, key: &str) -> Result<bool, Error> {
        let held = last_message(&self.stream, &self.url, &self.url.prefix.subject(key)).await?;
        Ok(held.is_some())
    }

    /// The number of messages.
    ///
    /// # Errors
    ///
    /// When the stream can't be read.
    pub async fn count(&self) -> Result<u64, Error> {
        Ok(self.info().await?.state.messages)
    }

    /// Calls `visit` with each event whose key is in the range from `from` to `to`, both included, in the order in which
    /// they were put. All events are visited that were stored before the call.
    ///
    /// # Errors
    ///
    /// When the stream can't be read, an event is damaged, or `visit` fails; after the last event, when messages of the
    /// stream were deleted.
    pub async fn visit<E: From<Error>>(
        &self,
        from: Option<&str>,
        to: Option<&str>,
        mut visit: impl FnMut(Event) -> Result<(), E>,
    ) -> Result<(), E> {
        let info = self.info().await?;
        messages::visit(&self.stream, &self.url, &info, |stored| {
            let Some(event) = self.event(stored)? else {
                return Ok(());
            };
            let key = event.key.as_str();
            let is_in_range = from.is_none_or(|from| from <= key) && to.is_none_or(|to| key <= to);
            if is_in_range { visit(event) } else { Ok(()) }
        })
        .await?;
        match state::deleted(&info) {
            None => Ok(()),
            Some(fault) => Err(incomplete(&self.url, fault).into()),
        }
    }

    /// Compares the replicas: their numbers of messages, and each message if `all` is set or the numbers differ.
    /// `progress` is called with the number of messages of each that were read so far.
    ///
    /// # Errors
    ///
    /// When no replica can be read, or one only in part.
    pub async fn replicas(&self, all: bool, progress: impl FnMut(u64)) -> Result<Replicas, Error> {
        let info = self.info().await?;
        let (found, unread) = open_replicas(&self.stream, &info, &self.url).await?;
        let mut faults = lagging(&found, &info);
        // A leader may apply what is committed a moment after the others.
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
        delete_consumers(&self.stream, found).await;
        faults.extend(compared?);
        Ok(Replicas { faults, unread })
    }

    /// Recomputes the digest of every event, and checks that the settings are safe and that no message was deleted. `progress` is called with the number of messages read so far.
    ///
    /// # Errors
    ///
    /// When the stream can't be read.
    pub async fn verify(&self, mut progress: impl FnMut(u64)) -> Result<Verification, Error> {
        let info = self.info().await?;
        let mut found = Verification {
            structure: state::faults(&info, &self.url),
            ..Verification::default()
        };
        let mut messages = 0;
        let mut foreign = 0_u64;
        let visited = messages::visit(&self.stream, &self.url, &info, |stored| {
            messages += 1;
            match stored {
                StoredMessage::Intact(_) => found.events += 1,
                StoredMessage::Damaged(key) => {
                    found.events += 1;
                    found.damaged.push(key);
                }
                StoredMessage::Foreign => foreign += 1,
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
            let pattern = self.url.prefix.wildcard();
            let line =
                format!("{foreign} messages have subjects that are not those of keys ({pattern})");
            found.structure.push(line);
        }
        Ok(found)
    }

    async fn info(&self) -> Result<Info, Error> {
        state::fetch(&self.connection, &self.url).await
    }

    /// The event of a message; `None` if the message is not an event.
    ///
    /// # Errors
    ///
    /// When the event is damaged.
    fn event(&self, stored: StoredMessage) -> Result<Option<Event>, Error> {
        match stored {
            StoredMessage::Intact(event) => Ok(Some(event)),
            StoredMessage::Foreign => Ok(None),
            StoredMessage::Damaged(key) => Err(Error::DamagedMessage {
                stream: self.url.to_string(),
                key,
            }),
        }
    }
}
