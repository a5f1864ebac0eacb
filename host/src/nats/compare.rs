//! Reads all replicas of a stream side by side, and compares them message by message.
//!
//! What they have in the same way is forgotten at once, so that it takes memory only for what differs.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Display;
use std::time::Duration;

use async_nats::jetstream::consumer::pull::Stream as Messages;
use futures_util::StreamExt as _;
use tokio::time::timeout;

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

/// How many keys are told of those that replicas do not agree on.
const MAX_KEYS: usize = 1000;

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
    let mut differences = Differences::default();
    let mut read = 0;
    while readings.iter().any(|reading| reading.left > 0) {
        for (number, reading) in readings.iter_mut().enumerate() {
            if let Some((subject, content)) = reading.next(url).await? {
                differences.add(number, replicas.len(), subject, content);
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
    Ok(differences.lines(replicas, url))
}

/// A replica that is being read.
struct Reading {
    name: String,
    messages: Messages,
    /// How many messages it had that are not read yet.
    left: u64,
}

/// What a replica has under a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// An event with this digest.
    Whole([u8; blake3::OUT_LEN]),
    Damaged,
    Foreign,
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

/// The subjects that not all replicas have in the same way, as far as they were read, and what each has.
#[derive(Debug, Default)]
struct Differences(HashMap<String, Vec<Option<Content>>>);

impl Differences {
    fn add(&mut self, replica: usize, replicas: usize, subject: String, content: Content) {
        let mut contents = match self.0.entry(subject) {
            Entry::Occupied(contents) => contents,
            Entry::Vacant(vacant) => vacant.insert_entry(vec![None; replicas]),
        };
        contents.get_mut()[replica] = Some(content);
        let first = contents.get()[0];
        if first.is_some() && contents.get().iter().all(|content| *content == first) {
            contents.remove();
        }
    }

    /// Adds what was found later, if it is under one of these subjects.
    fn add_known(&mut self, replica: usize, subject: String, content: Content) {
        if let Some(contents) = self.0.get(&subject) {
            self.add(replica, contents.len(), subject, content);
        }
    }

    /// Whether a replica has something under each of the subjects.
    fn has_all(&self, replica: usize) -> bool {
        self.0.values().all(|contents| contents[replica].is_some())
    }

    fn lines(&self, replicas: &[Replica], url: &NatsUrl) -> Vec<String> {
        let mut differences: Vec<_> = self.0.iter().collect();
        differences.sort_by_key(|(subject, _)| *subject);
        let more = differences.len().saturating_sub(MAX_KEYS);
        let told = differences.iter().take(MAX_KEYS);
        let mut lines: Vec<String> = told
            .map(|(subject, contents)| line(subject, contents, replicas, url))
            .collect();
        if more > 0 {
            lines.push(format!("the replicas differ under {more} more keys"));
        }
        lines
    }
}

/// What differs under a subject.
fn line(
    subject: &str,
    contents: &[Option<Content>],
    replicas: &[Replica],
    url: &NatsUrl,
) -> String {
    let with = |is_wanted: fn(&Option<Content>) -> bool| {
        let pairs = replicas.iter().zip(contents);
        let wanted = pairs.filter(|(_, content)| is_wanted(content));
        let names: Vec<String> = wanted
            .map(|(replica, _)| format!("{:?}", replica.name))
            .collect();
        names.join(" and ")
    };
    let what = match url.prefix.key(subject) {
        Some(key) => format!("the key {key:?}"),
        None => format!("the subject {subject:?}"),
    };
    let (lacks, damaged) = (
        with(Option::is_none),
        with(|content| *content == Some(Content::Damaged)),
    );
    match (lacks.as_str(), damaged.as_str()) {
        ("", "") => format!("{what} holds different events on {}", with(Option::is_some)),
        ("", damaged) => format!("{what} holds a damaged event on {damaged} alone"),
        (lacks, _) => format!(
            "{what} is lacking on {lacks}, and there on {}",
            with(Option::is_some)
        ),
    }
}
