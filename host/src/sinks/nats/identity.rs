//! The identity of a stream, beyond its name: the random id that its creator wrote into its metadata.
//!
//! The creation time does not identify it: servers keep different ones if two clients create it at the same moment.

use std::hash::{BuildHasher as _, RandomState};

use async_nats::jetstream::stream::Info;

/// The name of the id in the metadata of a stream.
pub(super) const ID: &str = "alldata-stream-id";

/// The identity of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Identity {
    Id(String),
    /// The time of its first message, which is the same on all replicas; `None` while it has had none. For streams
    /// that were created by hand, or on a server before 2.10, which keeps no metadata.
    FirstMessage(Option<String>),
}

impl Identity {
    pub(super) fn of(info: &Info) -> Self {
        match info.config.metadata.get(ID) {
            Some(id) => Self::Id(id.clone()),
            None => Self::FirstMessage(first_message(info)),
        }
    }

    /// Whether `info` is of the same stream. If so, keeps what it tells.
    pub(super) fn is_same(&mut self, info: &Info) -> bool {
        let found = Self::of(info);
        let is_same = match (&*self, &found) {
            (Self::Id(id), Self::Id(found)) => id == found,
            // An id does not disappear by itself.
            (Self::Id(_), Self::FirstMessage(_)) => false,
            (Self::FirstMessage(None), _) => true,
            // Somebody may have added an id.
            (Self::FirstMessage(first), Self::Id(_)) => *first == first_message(info),
            (Self::FirstMessage(first), Self::FirstMessage(found)) => first == found,
        };
        if is_same {
            *self = found;
        }
        is_same
    }

    /// Whether `info` may be of the same stream after it lost all its messages: there is no id to tell.
    pub(super) fn may_be_emptied(&self, info: &Info) -> bool {
        let has_no_id = !info.config.metadata.contains_key(ID);
        matches!(self, Self::FirstMessage(Some(_))) && has_no_id && info.state.messages == 0
    }
}

fn first_message(info: &Info) -> Option<String> {
    let state = &info.state;
    (state.messages > 0).then(|| state.first_timestamp.to_string())
}

/// A new id: 128 random bits.
pub(super) fn new_id() -> String {
    let [first, second] = [0, 1].map(|number| RandomState::new().hash_one(number));
    format!("{first:016x}{second:016x}")
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::stream::Info;

    use super::{ID, Identity, new_id};

    fn info(id: Option<&str>, messages: u64, first: &str) -> Info {
        let mut metadata = serde_json::Map::new();
        metadata.extend(id.map(|id| (ID.to_owned(), id.into())));
        let info = serde_json::json!({
            "config": {
                "name": "events", "discard": "new", "retention": "limits", "storage": "file",
                "num_replicas": 1, "metadata": metadata,
            },
            "created": "2026-11-26T00:00:00Z",
            "state": {
                "messages": messages, "bytes": 0, "first_seq": 1, "first_ts": first,
                "last_seq": messages, "last_ts": first, "consumer_count": 0,
            },
        });
        serde_json::from_value(info).expect("is one")
    }

    const ONE: &str = "2026-11-26T00:00:01Z";
    const TWO: &str = "2026-11-26T00:00:02Z";

    #[test]
    fn stream_with_an_id_is_identified_by_it_alone() {
        let mut identity = Identity::of(&info(Some("a"), 0, ONE));
        assert!(identity.is_same(&info(Some("a"), 3, TWO)));
        assert!(!identity.is_same(&info(Some("b"), 3, TWO)));
        assert!(!identity.is_same(&info(None, 3, TWO)));
    }

    #[test]
    fn stream_without_an_id_is_identified_by_its_first_message() {
        let mut identity = Identity::of(&info(None, 0, ONE));
        assert!(identity.is_same(&info(None, 0, TWO)));
        assert!(identity.is_same(&info(None, 1, ONE)));
        assert!(identity.is_same(&info(None, 2, ONE)));
        assert!(!identity.is_same(&info(None, 2, TWO)));
        assert!(!identity.is_same(&info(None, 0, ONE)));
        assert!(identity.may_be_emptied(&info(None, 0, ONE)));
        assert!(!identity.may_be_emptied(&info(Some("a"), 0, ONE)));
        assert!(!identity.is_same(&info(Some("a"), 2, TWO)));
        assert!(identity.is_same(&info(Some("a"), 2, ONE)));
        assert!(!identity.is_same(&info(Some("b"), 2, ONE)));
    }

    #[test]
    fn ids_differ() {
        let (first, second) = (new_id(), new_id());
        assert_eq!((first.len(), second.len()), (32, 32));
        assert_ne!(first, second);
    }
}
