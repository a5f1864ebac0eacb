//! Reads all replicas of a stream side by side, and compares them message by message.

use std::fmt::Display;
use std::time::Duration;

use async_nats::jetstream::consumer::pull::{MessagesErrorKind, Stream as Messages};
use futures_util::StreamExt as _;
use tokio::time::{sleep, timeout};

use super::differences::{Content, Differences};
use super::error::nats_error;
use super::message::StoredMessage;
use super::replicas::Replica;
use super::url::NatsUrl;
use crate::error::Error;

/// How long to wait for the next message.
const NEXT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long to wait for messages that one replica stored a moment after its messages were counted.
const TAIL_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause before a consumer that nobody answers for yet is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// How many such messages are read at the most.
const MAX_TAIL: usize = 100_000;

/// After how many such messages it is checked whether more have to be read.
const CHECK_INTERVAL: usize = 100;

/// A line for each key that not all replicas have in the same way. `progress` is called with the number of
/// messages of each that were read so far.
///
/// # Errors
///
/// When one can't be read to its end.
pub(super) async fn compare(
    replicas: &[Replica],
    url: &NatsUrl,
    mut progress: impl FnMut(u64),
) -> Result<Vec<String>, Error> {
    let mut readings = Vec::new();
    for replica in replicas {
        readings.push(Reading::start(replica, url).await?);
    }
    let mut differences = Differences::new(replicas.len());
    let mut read = 0;
    while readings.iter().any(|reading| reading.left > 0) {
        for (number, reading) in readings.iter_mut().enumerate() {
            if let Some((subject, content)) = reading.next(url).await? {
                differences.add(number, subject, content);
            }
        }
        read += 1;
        progress(read);
    }
    for (number, reading) in readings.iter_mut().enumerate() {
        for read in 0..MAX_TAIL {
            if read % CHECK_INTERVAL == 0 && differences.has_all(number) {
                break;
            }
            // Messages that do not come in time are missing.
            let Ok(next) = timeout(TAIL_TIMEOUT, reading.read(url)).await else {
                break;
            };
            let (subject, content) = next?;
            differences.add_known(number, subject, content);
        }
    }
    let names: Vec<&str> = replicas
        .iter()
        .map(|replica| replica.name.as_str())
        .collect();
    Ok(differences.lines(&names, url))
}

/// A replica that is being read.
struct Reading<'a> {
    replica: &'a Replica,
    messages: Messages,
    has_begun: bool,
    /// How many messages are not read yet of those that it had at the start.
    left: u64,
}

impl<'a> Reading<'a> {
    async fn start(replica: &'a Replica, url: &NatsUrl) -> Result<Self, Error> {
        Ok(Self {
            replica,
            messages: open(replica, url).await?,
            has_begun: false,
            left: replica.messages,
        })
    }

    /// The next message of those that it had at the start.
    async fn next(&mut self, url: &NatsUrl) -> Result<Option<(String, Content)>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let next = timeout(NEXT_TIMEOUT, self.read(url)).await;
        match next {
            Ok(next) => next.map(Some),
            Err(_elapsed) => Err(self.fail(url, &"the next message did not come in time")),
        }
    }

    /// Waits for the next message: its subject, and its content.
    async fn read(&mut self, url: &NatsUrl) -> Result<(String, Content), Error> {
        let message = loop {
            let message = self.messages.next().await;
            match message.ok_or_else(|| self.fail(url, &"the delivery ended too early"))? {
                Ok(message) => break message,
                // The server of a consumer that was just created may not listen for requests yet.
                Err(error)
                    if error.kind() == MessagesErrorKind::NoResponders && !self.has_begun =>
                {
                    sleep(PAUSE).await;
                    self.messages = open(self.replica, url).await?;
                }
                Err(error) => return Err(self.fail(url, &error)),
            }
        };
        self.has_begun = true;
        let headers = message.headers.as_ref();
        let content = match StoredMessage::read(url, &message.subject, headers, &message.payload) {
            StoredMessage::Intact(event) => {
                Content::Intact(*blake3::hash(event.event.as_bytes()).as_bytes())
            }
            StoredMessage::Damaged(_) => Content::Damaged,
            StoredMessage::Foreign => Content::Foreign,
        };
        Ok((message.subject.to_string(), content))
    }

    fn fail(&self, url: &NatsUrl, reason: &dyn Display) -> Error {
        let name = &self.replica.name;
        nats_error(url, "read")(&format!("the replica on {name:?}: {reason}"))
    }
}

async fn open(replica: &Replica, url: &NatsUrl) -> Result<Messages, Error> {
    let messages = replica.consumer.messages().await;
    messages.map_err(|error| nats_error(url, "read")(&error))
}
