//! Reads the store, also while a server writes to it.
//!
//! Reads in short steps, so that it never holds back the writer's checkpoints. Never writes.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, Rows, params};

use super::{check_format, digest, open, store_error};
use crate::error::Error;
use crate::put_json::put_line;

/// How many events one step reads at the most.
const STEP_EVENTS: i64 = 256;

/// How many bytes of events one step reads, and one event more.
const STEP_BYTES: usize = 4 * 1024 * 1024;

/// An event with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: String,
    /// The JSON text as it was sent.
    pub event: String,
    /// The digest that was stored with it.
    digest: Vec<u8>,
}

impl Event {
    /// The event as a line of NDJSON, `{"key":…,"event":…}` with its end. Line breaks between the
    /// tokens of the event become spaces.
    #[must_use]
    pub fn to_line(&self) -> String {
        put_line(&self.key, &self.event)
    }
}

/// What [`StoreReader::verify`] found.
#[derive(Debug, Default)]
pub struct Verification {
    /// How many events were read.
    pub events: u64,
    /// The keys of those whose digest is not that of their bytes.
    pub damaged: Vec<String>,
    /// What SQLite says of the file's structure; empty where it is whole.
    pub structure: Vec<String>,
}

impl Verification {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.damaged.is_empty() && self.structure.is_empty()
    }
}

/// A store opened for reading.
#[derive(Debug)]
pub struct StoreReader {
    path: PathBuf,
    connection: Connection,
}

impl StoreReader {
    /// Opens the store at `path`, which must be there.
    ///
    /// # Errors
    ///
    /// When the file can't be opened or is no store of a version that is known here.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        check_format(&connection, path)?;
        Ok(Self {
            path: path.to_owned(),
            connection,
        })
    }

    /// The event under `key`.
    ///
    /// # Errors
    ///
    /// When the store can't be read.
    pub fn get(&self, key: &str) -> Result<Option<String>, Error> {
        self.connection
            .prepare_cached("SELECT event FROM events WHERE key = ?1")
            .and_then(|mut select| select.query_row([key], |row| row.get(0)).optional())
            .map_err(store_error(&self.path, "read"))
    }

    /// How many events there are.
    ///
    /// # Errors
    ///
    /// When the store can't be read.
    pub fn count(&self) -> Result<u64, Error> {
        let count: rusqlite::Result<i64> =
            self.connection
                .query_row("SELECT count(*) FROM events", (), |row| row.get(0));
        count
            .map(i64::unsigned_abs)
            .map_err(store_error(&self.path, "read"))
    }

    /// Hands the events from key `from` to key `to`, both included, to `visit`, in the order of
    /// the bytes of their keys. All that were stored when it began are among them; of those that
    /// are stored meanwhile, some.
    ///
    /// # Errors
    ///
    /// When the store can't be read, or `visit` fails.
    pub fn visit<E: From<Error>>(
        &self,
        from: Option<&str>,
        to: Option<&str>,
        mut visit: impl FnMut(Event) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut step = self.step("key >= ?1", from.unwrap_or_default(), to)?;
        loop {
            let Some(last) = step.last().map(|event| event.key.clone()) else {
                return Ok(());
            };
            for event in step {
                visit(event)?;
            }
            step = self.step("key > ?1", &last, to)?;
        }
    }

    /// Recomputes the digest of every event, and has SQLite check the structure of the file.
    /// `progress` is called with the number of events read so far.
    ///
    /// # Errors
    ///
    /// When the store can't be read at all.
    pub fn verify(&self, mut progress: impl FnMut(u64)) -> Result<Verification, Error> {
        let mut found = Verification::default();
        self.visit(None, None, |event| -> Result<(), Error> {
            if digest(&event.key, &event.event)[..] != event.digest[..] {
                found.damaged.push(event.key);
            }
            found.events += 1;
            progress(found.events);
            Ok(())
        })?;
        self.connection
            .pragma_query(None, "integrity_check", |row| {
                let line: String = row.get(0)?;
                if line != "ok" {
                    found.structure.push(line);
                }
                Ok(())
            })
            .map_err(store_error(&self.path, "verify"))?;
        Ok(found)
    }

    /// The next events behind a key.
    fn step(&self, start: &str, key: &str, to: Option<&str>) -> Result<Vec<Event>, Error> {
        let sql = format!(
            "SELECT key, event, digest FROM events
             WHERE {start} AND (?2 IS NULL OR key <= ?2) ORDER BY key LIMIT ?3"
        );
        self.connection
            .prepare_cached(&sql)
            .and_then(|mut select| read_step(select.query(params![key, to, STEP_EVENTS])?))
            .map_err(store_error(&self.path, "read"))
    }
}

fn read_step(mut rows: Rows<'_>) -> rusqlite::Result<Vec<Event>> {
    let mut events = Vec::new();
    let mut bytes = 0;
    while bytes < STEP_BYTES
        && let Some(row) = rows.next()?
    {
        let event = read_event(row)?;
        bytes += event.key.len() + event.event.len();
        events.push(event);
    }
    Ok(events)
}

fn read_event(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        key: row.get(0)?,
        event: row.get(1)?,
        digest: row.get(2)?,
    })
}
