//! Compares an event with the one that the stream already has under its key.

use std::time::Duration;

use alldata_peer_protocol::same_event::same_event;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::connection::Connection;
use super::message::{OutgoingEvent, StoredMessage};
use super::url::NatsUrl;
use crate::sink::PutError;
use crate::sink::comparison::{Comparison, SMALL_BYTES, StoredId};
use crate::store::{Event, digest};

/// The time-out for reading the stored event.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// How many puts may read at a time: a stored event may be of any size, however small the one that is put.
const MAX_READS: usize = 16;

/// The result of a comparison.
pub(super) enum Compared {
    Same,
    Different,
    /// The event can't be compared, for good.
    Failed(PutError),
    /// The stored event could not be read now; perhaps for a reason that concerns other puts too.
    NotRead(Option<String>),
}

/// Reads stored events, and compares them.
#[derive(Debug)]
pub(super) struct ConflictCheck {
    url: NatsUrl,
    connection: watch::Receiver<Connection>,
    comparison: Comparison,
    reads: Semaphore,
}

impl ConflictCheck {
    pub(super) fn new(
        url: &NatsUrl,
        connection: watch::Receiver<Connection>,
        comparison: Comparison,
    ) -> Self {
        Self {
            url: url.clone(),
            connection,
            comparison,
            reads: Semaphore::new(MAX_READS),
        }
    }

    /// Compares an event with the stored one.
    pub(super) async fn compare(&self, key: &str, message: &OutgoingEvent) -> Compared {
        // The stored event of a key never changes, so a known difference needs no read.
        let subject = *blake3::hash(message.subject.as_bytes()).as_bytes();
        if self
            .comparison
            .is_known_to_differ(message.event(), &subject)
        {
            return Compared::Different;
        }
        // The semaphore is never closed.
        let Ok(_permit) = self.reads.acquire().await else {
            return Compared::NotRead(None);
        };
        // Read from the leader, which has refused the message. The time-out of the client does not include its queue.
        let connection = self.connection.borrow().clone();
        let Ok(stream) = connection.stream(&self.url).await else {
            return Compared::NotRead(None);
        };
        let stored = stream.get_last_raw_message_by_subject(&message.subject);
        let stored = match timeout(READ_TIMEOUT, stored).await {
            Ok(Ok(stored)) => stored,
            Ok(Err(error)) => {
                return Compared::NotRead(match error.kind() {
                    LastRawMessageErrorKind::JetStream(error) => Some(error.to_string()),
                    _ => None,
                });
            }
            // A slow read is no sign that nothing can be put.
            Err(_elapsed) => return Compared::NotRead(None),
        };
        match StoredMessage::read(
            &self.url,
            &stored.subject,
            Some(&stored.headers),
            &stored.payload,
        ) {
            StoredMessage::Intact(stored) => self.compare_events(message, stored, subject).await,
            StoredMessage::Damaged(_) | StoredMessage::Foreign => {
                let reason = format!(
                    "the stored event of the key {key:?} is damaged, or was not put by a peer; `alldata-peer verify` finds all such events"
                );
                Compared::Failed(PutError::Failed(reason))
            }
        }
    }

    async fn compare_events(
        &self,
        message: &OutgoingEvent,
        stored: Event,
        subject: StoredId,
    ) -> Compared {
        let sent = message.event();
        let is_same = if stored.event == sent {
            true
        } else if stored.event.len().max(sent.len()) <= SMALL_BYTES {
            same_event(&stored.event, sent)
        } else {
            let id = digest(&stored.key, &stored.event);
            let read_stored = move || Ok(stored.event);
            let is_same = self.comparison.is_same(sent.to_owned(), id, read_stored);
            match is_same.await {
                Ok(is_same) => {
                    self.comparison.add_alias(&id, subject);
                    is_same
                }
                Err(error) => return Compared::Failed(error),
            }
        };
        if is_same {
            Compared::Same
        } else {
            Compared::Different
        }
    }
}
