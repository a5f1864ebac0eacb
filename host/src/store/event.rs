//! An event of a store, as it was put and as its row stands in the file.

use rusqlite::{Row, Rows};

use super::schema::digest;
use crate::util::ndjson::put_line;

/// The size in bytes at which a step ends, so that it fits the memory whatever the events are.
const STEP_BYTES: usize = 4 * 1024 * 1024;

/// An event with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: String,
    /// The JSON text as it was sent.
    pub event: String,
}

impl Event {
    /// The event as a line of NDJSON, `{"key":…,"event":…}` with its end. Line breaks between the
    /// tokens of the event become spaces.
    #[must_use]
    pub fn to_line(&self) -> String {
        put_line(&self.key, &self.event)
    }
}

/// A row as it stands in the file, which time may have damaged.
pub(super) struct RawEvent {
    pub(super) key: Vec<u8>,
    event: Vec<u8>,
    /// `None` if it is no digest.
    digest: Option<[u8; blake3::OUT_LEN]>,
}

impl RawEvent {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let bytes = |column| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_bytes()?.to_vec());
        Ok(Self {
            key: bytes(0)?,
            event: bytes(1)?,
            digest: row.get_ref(2)?.as_bytes()?.try_into().ok(),
        })
    }

    /// Whether key and event are those that were put.
    pub(super) fn is_intact(&self) -> bool {
        Some(digest(&self.key, &self.event)) == self.digest
    }

    /// The event, or the key where it is not as it was put.
    pub(super) fn into_event(self) -> Result<Event, Vec<u8>> {
        if !self.is_intact() {
            return Err(self.key);
        }
        match (String::from_utf8(self.key), String::from_utf8(self.event)) {
            (Ok(key), Ok(event)) => Ok(Event { key, event }),
            (Ok(key), Err(_)) => Err(key.into_bytes()),
            (Err(key), _) => Err(key.into_bytes()),
        }
    }
}

pub(super) fn read_step(mut rows: Rows<'_>) -> rusqlite::Result<Vec<RawEvent>> {
    let mut events = Vec::new();
    let mut read = 0;
    while read < STEP_BYTES
        && let Some(row) = rows.next()?
    {
        let event = RawEvent::read(row)?;
        read += event.key.len() + event.event.len();
        events.push(event);
    }
    Ok(events)
}
