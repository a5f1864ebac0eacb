//! An event as a message of a stream, and a message of a stream as an event.
//!
//! Never sends one.

use async_nats::header::{
    HeaderMap, HeaderName, NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_EXPECTED_STREAM,
};
use async_nats::{HeaderValue, Subject};
use bytes::Bytes;

use super::url::NatsUrl;
use crate::store::{Event, digest};

/// The header that has the digest of key and event.
const DIGEST: HeaderName = HeaderName::from_static("Alldata-Digest");

/// What the header about the last message of a subject says when there may be none.
const NONE_YET: &str = "0";

/// An event that is to be published, as often as that takes.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) subject: Subject,
    pub(super) payload: Bytes,
    digest: String,
    stream: HeaderValue,
}

impl Outgoing {
    pub(super) fn new(url: &NatsUrl, key: &str, event: String) -> Self {
        Self {
            subject: url.prefix.subject(key).into(),
            digest: hex_digest(key, event.as_bytes()),
            payload: event.into(),
            stream: url.stream.as_str().into(),
        }
    }

    /// The headers, which have the server refuse the message where its subject is taken, or where
    /// another stream would get it.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(DIGEST, self.digest.as_str());
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NONE_YET);
        headers.insert(NATS_EXPECTED_STREAM, self.stream.clone());
        headers
    }

    /// The event's text.
    pub(super) fn event(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("the payload was made of a string")
    }
}

/// What a message of the stream is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Whole(Event),
    /// The event under this key is not as it was put, or was not put by a peer.
    Damaged(String),
    /// It is not under the subject of any key.
    Foreign,
}

impl Stored {
    pub(super) fn read(
        url: &NatsUrl,
        subject: &str,
        headers: Option<&HeaderMap>,
        payload: &[u8],
    ) -> Self {
        let Some(key) = url.prefix.key(subject) else {
            return Self::Foreign;
        };
        let held = headers.and_then(|headers| headers.get(DIGEST));
        let is_whole = held.is_some_and(|held| held.as_str() == hex_digest(&key, payload));
        match std::str::from_utf8(payload) {
            Ok(event) if is_whole => {
                let event = event.to_owned();
                Self::Whole(Event { key, event })
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
    use super::{DIGEST, Outgoing, Stored};
    use crate::nats::NatsUrl;
    use crate::store::Event;

    #[test]
    fn what_is_published_is_what_is_read() {
        let url: NatsUrl = "nats://localhost/events".parse().expect("is one");
        let sent = Outgoing::new(&url, "a b", "{\"ä\":1e400}".to_owned());
        let read = |subject: &str, payload: &[u8]| {
            Stored::read(&url, subject, Some(&sent.headers()), payload)
        };
        let event = Event {
            key: "a b".to_owned(),
            event: "{\"ä\":1e400}".to_owned(),
        };
        assert_eq!(read("alldata.a%20b", &sent.payload), Stored::Whole(event));
        let damaged = Stored::Damaged("a b".to_owned());
        assert_eq!(read("alldata.a%20b", b"{}"), damaged);
        assert_eq!(read("alldata.a%20b", b"\xFF"), damaged);
        assert_eq!(
            Stored::read(&url, "alldata.a%20b", None, &sent.payload),
            damaged
        );
        assert_eq!(read("alldata.a b", &sent.payload), Stored::Foreign);
        assert_eq!(
            sent.headers()
                .get(DIGEST)
                .map(|digest| digest.as_str().len()),
            Some(64)
        );
    }
}
