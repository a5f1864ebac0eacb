//! Events as messages of a stream: encoding and decoding.

use async_nats::header::{
    HeaderMap, HeaderName, NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_EXPECTED_STREAM,
};
use async_nats::{HeaderValue, Subject};
use bytes::Bytes;

use super::url::NatsUrl;
use crate::store::{Event, digest};

/// The header with the digest of key and event.
const DIGEST: HeaderName = HeaderName::from_static("Alldata-Digest");

/// The expected last sequence number of a subject that has no message.
const NO_MESSAGE: &str = "0";

/// An event to be published, once or several times.
#[derive(Debug)]
pub(super) struct OutgoingEvent {
    pub(super) subject: Subject,
    pub(super) payload: Bytes,
    digest: String,
    stream: HeaderValue,
}

impl OutgoingEvent {
    pub(super) fn new(url: &NatsUrl, key: &str, event: String) -> Self {
        Self {
            subject: url.prefix.subject(key).into(),
            digest: hex_digest(key, event.as_bytes()),
            payload: event.into(),
            stream: url.stream.as_str().into(),
        }
    }

    /// The headers: the server refuses the message if the subject has a message, or if another stream would store it.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(DIGEST, self.digest.as_str());
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NO_MESSAGE);
        headers.insert(NATS_EXPECTED_STREAM, self.stream.clone());
        headers
    }

    /// The event's text.
    pub(super) fn event(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("the payload was made of a string")
    }
}

/// A message of the stream, checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StoredMessage {
    Intact(Event),
    /// The digest of the event under this key is wrong or missing.
    Damaged(String),
    /// Its subject is not that of a key.
    Foreign,
}

impl StoredMessage {
    pub(super) fn read(
        url: &NatsUrl,
        subject: &str,
        headers: Option<&HeaderMap>,
        payload: &[u8],
    ) -> Self {
        let Some(key) = url.prefix.key(subject) else {
            return Self::Foreign;
        };
        let digest = headers.and_then(|headers| headers.get(DIGEST));
        let is_intact = digest.is_some_and(|digest| digest.as_str() == hex_digest(&key, payload));
        match std::str::from_utf8(payload) {
            Ok(event) if is_intact => {
                let event = event.to_owned();
                Self::Intact(Event { key, event })
            }
            _ => Self::Damaged(key),
        }
    }
}

fn hex_digest(key: &str, event: &[u8]) -> String {
    blake3::Hash::from(digest(key, event)).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::{DIGEST, OutgoingEvent, StoredMessage};
    use crate::sinks::nats::url::NatsUrl;
    use crate::store::Event;

    #[test]
    fn published_message_is_read_back() {
        let url: NatsUrl = "nats://localhost/events".parse().expect("is one");
        let sent = OutgoingEvent::new(&url, "a b", "{\"ä\":1e400}".to_owned());
        let read = |subject: &str, payload: &[u8]| {
            StoredMessage::read(&url, subject, Some(&sent.headers()), payload)
        };
        let event = Event {
            key: "a b".to_owned(),
            event: "{\"ä\":1e400}".to_owned(),
        };
        assert_eq!(
            read("alldata.a%20b", &sent.payload),
            StoredMessage::Intact(event)
        );
        let damaged = StoredMessage::Damaged("a b".to_owned());
        assert_eq!(read("alldata.a%20b", b"{}"), damaged);
        assert_eq!(read("alldata.a%20b", b"\xFF"), damaged);
        assert_eq!(
            StoredMessage::read(&url, "alldata.a%20b", None, &sent.payload),
            damaged
        );
        assert_eq!(read("alldata.a b", &sent.payload), StoredMessage::Foreign);
        assert_eq!(
            sent.headers()
                .get(DIGEST)
                .map(|digest| digest.as_str().len()),
            Some(64)
        );
    }
}
