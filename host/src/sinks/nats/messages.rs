//! The messages of a stream, read in order, with a check that none is missing.

use std::fmt::Display;
use std::time::Duration;

use async_nats::jetstream::consumer::Consumer;
use async_nats::jetstream::consumer::pull::{self, OrderedConfig};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{
    ConsumerError, ConsumerErrorKind, Info, LastRawMessageError, LastRawMessageErrorKind, Stream,
};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::check::leader;
use super::error::nats_error;
use super::message::StoredMessage;
use super::replicas::delete_consumer;
use super::retry::{Retry, is_transient};
use super::state::refused;
use super::url::NatsUrl;
use crate::error::Error;

/// How long to wait for the next message.
const NEXT_TIMEOUT: Duration = Duration::from_secs(15);

/// How many consumers are created at the most until one is on the leader: with five replicas 9 of 10 times one is.
const MAX_CONSUMERS: usize = 10;

/// The pattern of all subjects.
const EVERYTHING: &str = ">";

/// The last message with one of these subjects, as the leader has it.
pub(super) async fn last_message(
    stream: &Stream<()>,
    url: &NatsUrl,
    subjects: &str,
) -> Result<Option<StreamMessage>, Error> {
    let message = Retry::of_command().run(
        |error: &LastRawMessageError| match error.kind() {
            LastRawMessageErrorKind::JetStream(error) => is_transient(&error),
            kind => kind == LastRawMessageErrorKind::Other,
        },
        || stream.get_last_raw_message_by_subject(subjects),
    );
    match message.await {
        Ok(message) => Ok(Some(message)),
        Err(error) => match error.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            LastRawMessageErrorKind::JetStream(cause) => Err(refused(url, &cause)),
            _ => Err(nats_error(url, "read")(&error)),
        },
    }
}

/// Calls `visit` with each message that the stream has by `info`, in their order.
///
/// # Errors
///
/// When the stream can't be read, fewer messages are delivered, or `visit` fails.
pub(super) async fn visit<E: From<Error>>(
    stream: &Stream<()>,
    url: &NatsUrl,
    info: &Info,
    mut visit: impl FnMut(StoredMessage) -> Result<(), E>,
) -> Result<(), E> {
    let expected = info.state.messages;
    // Asked from the leader: the replica that delivers may be behind it.
    let Some(last) = last_message(stream, url, EVERYTHING).await? else {
        return match expected {
            0 => Ok(()),
            _ => Err(short(url, 0, expected).into()),
        };
    };
    let last = last.sequence.min(info.state.last_sequence);
    let fail = |read: u64, reason: &dyn Display| {
        let text = format!("{reason}, after {read} of {expected} messages");
        nats_error(url, "read")(&text)
    };
    let mut messages = open(stream, url, info).await?;
    let mut read = 0;
    while read < expected {
        let next = timeout(NEXT_TIMEOUT, messages.next()).await;
        let next = next.map_err(|_elapsed| fail(read, &"the next message did not come in time"))?;
        let message = next.ok_or_else(|| fail(read, &"the delivery ended"))?;
        let message = message.map_err(|error| fail(read, &error))?;
        let info = message.info().map_err(|error| fail(read, &error))?;
        let sequence = info.stream_sequence;
        if sequence <= last {
            read += 1;
            let headers = message.headers.as_ref();
            visit(StoredMessage::read(
                url,
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
        false => Err(short(url, read, expected).into()),
    }
}

fn short(url: &NatsUrl, read: u64, expected: u64) -> Error {
    incomplete(
        url,
        format!("{read} of its {expected} messages were delivered"),
    )
}

pub(super) fn incomplete(url: &NatsUrl, reason: String) -> Error {
    Error::IncompleteStream {
        stream: url.to_string(),
        reason,
    }
}

/// The messages, from the replica of the leader if the servers place a consumer there in one of a few attempts.
async fn open(stream: &Stream<()>, url: &NatsUrl, info: &Info) -> Result<pull::Ordered, Error> {
    let fail = nats_error(url, "read");
    let mut attempts = 0;
    loop {
        attempts += 1;
        let consumer = create_consumer(stream, url).await?;
        let is_usable = match &consumer.cached_info().cluster {
            None => true,
            // Without a leader it is on a server that can't be reached.
            Some(cluster) => match cluster.leader.as_deref() {
                None => attempts >= 2 * MAX_CONSUMERS,
                host => host == leader(info) || attempts >= MAX_CONSUMERS,
            },
        };
        if is_usable {
            return consumer.messages().await.map_err(|error| fail(&error));
        }
        if !delete_consumer(stream, &consumer.cached_info().name).await {
            // Consumers can't be deleted: use the next one.
            attempts = attempts.max(MAX_CONSUMERS);
        }
    }
}

async fn create_consumer(
    stream: &Stream<()>,
    url: &NatsUrl,
) -> Result<Consumer<OrderedConfig>, Error> {
    let consumer = Retry::of_command().run(
        |error: &ConsumerError| match error.kind() {
            ConsumerErrorKind::JetStream(error) => is_transient(&error),
            kind => matches!(
                kind,
                ConsumerErrorKind::TimedOut | ConsumerErrorKind::Request
            ),
        },
        || stream.create_consumer(OrderedConfig::default()),
    );
    consumer.await.map_err(|error| match error.kind() {
        ConsumerErrorKind::JetStream(cause) => refused(url, &cause),
        _ => nats_error(url, "read")(&error),
    })
}
