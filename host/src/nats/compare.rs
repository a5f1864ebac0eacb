//! Reads all replicas of a stream side by side, and compares them message by message.
//!
//! Subjects that all have in the same way are forgotten at once; what is kept of the others is bounded: see
//! `differences`.

use std::fmt::Display;
use std::time::Duration;

use async_nats::jetstream::consumer::pull::Stream as Messages;
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::differences::{Content, Differences};
use super::message::Stored;
use super::nats_error;
use super::replicas::Replica;
use super::url::NatsUrl;
use crate::error::Error;

/// How long to wait for the next message of a replica that has one.
const NEXT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long to wait for what one replica had when it was looked at, and another got a moment later.
const TAIL_TIMEOUT: Duration = Duration::from_secs(1);

/// How many messages are read for that at the most.
const MAX_TAIL: usize = 100_000;

/// After how many of those it is looked whether it has all that the others have.
const LOOK_AGAIN: usize = 100;

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
            if read % LOOK_AGAIN == 0 && differences.has_all(number) {
                break;
            }
            // What does not come any more, it lacks.
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
struct Reading {
    name: String,
    messages: Messages,
    /// How many messages it had that are not read yet.
    left: u64,
}

impl Reading {
    async fn start(replica: &Replica, url: &NatsUrl) -> Result<Self, Error> {
        let messages = replica.consumer.messages().await;
        let messages = messages.map_err(|error| nats_error(url, "read")(&error))?;
        Ok(Self {
            name: replica.name.clone(),
            messages,
            left: replica.messages,
        })
    }

    /// The next message of those that it had, if there is one.
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

    /// The subject of the next message, once there is one, and what it is.
    async fn read(&mut self, url: &NatsUrl) -> Result<(String, Content), Error> {
        let message = self.messages.next().await;
        let message = message.ok_or_else(|| self.fail(url, &"its messages end too early"))?;
        let message = message.map_err(|error| self.fail(url, &error))?;
        let headers = message.headers.as_ref();
        let content = match Stored::read(url, &message.subject, headers, &message.payload) {
            Stored::Whole(event) => {
                Content::Whole(*blake3::hash(event.event.as_bytes()).as_bytes())
            }
            Stored::Damaged(_) => Content::Damaged,
            Stored::Foreign => Content::Foreign,
        };
        Ok((message.subject.to_string(), content))
    }

    fn fail(&self, url: &NatsUrl, reason: &dyn Display) -> Error {
        let name = &self.name;
        nats_error(url, "read")(&format!("the replica on {name:?}: {reason}"))
    }
}
