//! Reads the store, also while a server writes to it.
//!
//! Reads in short steps, so that it never holds back the writer's checkpoints. Never writes, and
//! leaves no file behind.

use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::thread;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::event::{Event, RawEvent, read_step};
use super::file_id::links;
use super::immutable::ReadConnection;
use super::integrity::is_corruption;
use super::promote_copy::copy_beside;
use super::schema::check_readable;
use super::store_error::store_error;
use super::{location, overwritten_mark};
use crate::error::Error;

/// How many events one step reads at the most: enough that looking up where it begins no longer
/// counts.
const STEP_EVENTS: i64 = 256;

/// How often a step is done again because a closed store was opened and written to meanwhile.
const MAX_TRIES: u32 = 64;

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
    /// Opened anew once the store is not what it was.
    opened: Mutex<ReadConnection>,
}

impl StoreReader {
    /// Opens the store at `path`, which must be there.
    ///
    /// # Errors
    ///
    /// When the file can't be opened or is no store of a version that is known here.
    pub fn open(path: &Path) -> Result<Self, Error> {
        location::resolve_path(path)?;
        fs::metadata(path).map_err(|source| Error::File {
            operation: "open",
            path: path.to_owned(),
            source,
        })?;
        for _ in 0..MAX_TRIES {
            let opened = ReadConnection::at(path)?;
            let checked = check_readable(&opened.connection, path);
            if opened.holds(path) {
                if let Some(mark) = overwritten_mark::found(path) {
                    tracing::warn!("the store {}: {mark}", path.display());
                }
                if let Some(copy) = copy_beside(path) {
                    tracing::warn!(
                        "{} has acknowledged events of a store that was replaced by {}, which may lack them",
                        copy.display(),
                        path.display()
                    );
                }
                return checked.map(|()| Self {
                    path: path.to_owned(),
                    opened: Mutex::new(opened),
                });
            }
        }
        Err(changes_too_often(path))
    }

    /// How many names the file has, all of which count: a store with several is not written to.
    #[must_use]
    pub fn links(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |found| links(&found))
    }

    /// Does one step, and once more where it read what was being changed.
    fn read<T>(
        &self,
        operation: &'static str,
        step: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        // A step leaves the connection usable, also if it panics.
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..MAX_TRIES {
            let result = step(&opened.connection);
            if opened.holds(&self.path) {
                return result.map_err(store_error(&self.path, operation));
            }
            *opened = ReadConnection::at(&self.path)?;
        }
        Err(changes_too_often(&self.path))
    }

    /// The event under `key`.
    ///
    /// # Errors
    ///
    /// When the store can't be read, or the event is damaged.
    pub fn get(&self, key: &str) -> Result<Option<String>, Error> {
        let row = self.read("read", |connection| {
            connection
                .prepare_cached("SELECT key, event, digest FROM events WHERE key = ?1")
                .and_then(|mut select| select.query_row([key], RawEvent::read).optional())
        })?;
        let event = row.map(RawEvent::into_event).transpose();
        let event = event.map_err(|key| self.damaged(&key))?;
        Ok(event.map(|event| event.event))
    }

    /// Whether there is an event under `key`, whatever it is.
    ///
    /// # Errors
    ///
    /// When the store can't be read.
    pub fn contains(&self, key: &str) -> Result<bool, Error> {
        self.read("read", |connection| {
            connection
                .prepare_cached("SELECT 1 FROM events WHERE key = ?1")
                .and_then(|mut select| select.exists([key]))
        })
    }

    /// How many events there are.
    ///
    /// # Errors
    ///
    /// When the store can't be read.
    pub fn count(&self) -> Result<u64, Error> {
        let count = self.read("read", |connection| {
            connection.query_row("SELECT count(*) FROM events", (), |row| row.get(0))
        });
        count.map(i64::unsigned_abs)
    }

    /// Hands the events from key `from` to key `to`, both included, to `visit`, in the order of
    /// the bytes of their keys. All that were stored when it began are among them; of those that
    /// are stored meanwhile, some.
    ///
    /// # Errors
    ///
    /// When the store can't be read, an event is damaged, or `visit` fails.
    pub fn visit<E: From<Error>>(
        &self,
        from: Option<&str>,
        to: Option<&str>,
        mut visit: impl FnMut(Event) -> Result<(), E>,
    ) -> Result<(), E> {
        self.visit_rows(from, to, |row| {
            let event = row.into_event().map_err(|key| self.damaged(&key))?;
            visit(event)
        })
    }

    /// Recomputes the digest of every event, and has SQLite check the structure of the file.
    /// `progress` is called with the number of events read so far.
    ///
    /// # Errors
    ///
    /// When the structure of the store can't be checked.
    pub fn verify(&self, mut progress: impl FnMut(u64)) -> Result<Verification, Error> {
        let mut found = Verification {
            structure: overwritten_mark::found(&self.path).into_iter().collect(),
            ..Verification::default()
        };
        let read = self.visit_rows(None, None, |row| {
            if !row.is_intact() {
                let key = String::from_utf8_lossy(&row.key);
                found.damaged.push(key.into_owned());
            }
            found.events += 1;
            progress(found.events);
            Ok::<_, Error>(())
        });
        if let Err(error) = read {
            found.structure.push(with_cause(&error));
        }
        match self.check("integrity_check") {
            Ok(mut lines) => found.structure.append(&mut lines),
            // What was found before that is told too.
            Err(error) if found.is_clean() => return Err(error),
            Err(error) => found.structure.push(with_cause(&error)),
        }
        Ok(found)
    }

    /// Has SQLite check the structure of the file, without comparing tables and indexes: what it
    /// says, or nothing where all is well.
    ///
    /// # Errors
    ///
    /// When the structure of the store can't be checked.
    pub fn quick_check(&self) -> Result<Vec<String>, Error> {
        self.check("quick_check")
    }

    fn check(&self, pragma: &str) -> Result<Vec<String>, Error> {
        self.read("verify", |connection| {
            let mut lines = Vec::new();
            let checked = connection.pragma_query(None, pragma, |row| {
                let line: String = row.get(0)?;
                if line != "ok" {
                    lines.push(line);
                }
                Ok(())
            });
            match checked {
                // What it said before it met a page that it can't go beyond.
                Err(error) if !lines.is_empty() && is_corruption(&error) => {
                    lines.push(error.to_string());
                }
                checked => checked?,
            }
            Ok(lines)
        })
    }

    /// [`visit`](Self::visit) for rows, whatever is in them. The next ones are read by another thread while `visit` runs.
    fn visit_rows<E: From<Error>>(
        &self,
        from: Option<&str>,
        to: Option<&str>,
        mut visit: impl FnMut(RawEvent) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut last = Vec::new();
        let mut visit_step = |step: Result<Vec<RawEvent>, Error>| {
            for row in step? {
                // The key of a damaged row can be any: the rows after it would be in the wrong place.
                if last >= row.key && !last.is_empty() {
                    return Err(self.damaged(&row.key).into());
                }
                last.clone_from(&row.key);
                visit(row)?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            // No step waits in the channel: the reading thread has two, and the rows of three are in memory at the most.
            let (sender, received) = sync_channel(0);
            let read = move || {
                // Nothing receives them after an error.
                let _ = (self.steps(from, to)).try_for_each(|step| sender.send(step));
            };
            let thread = thread::Builder::new().name("store-reader".to_owned());
            match thread.spawn_scoped(scope, read) {
                Ok(_joined_by_the_scope) => received.into_iter().try_for_each(&mut visit_step),
                // The system allows no more threads.
                Err(_) => self.steps(from, to).try_for_each(&mut visit_step),
            }
        })
    }

    /// The rows of a range of keys, step by step. Reads one step ahead. The last step is empty, or an error.
    fn steps<'a>(
        &'a self,
        from: Option<&'a str>,
        to: Option<&'a str>,
    ) -> impl Iterator<Item = Result<Vec<RawEvent>, Error>> + 'a {
        let first = Some(self.step("key >= ?1", from.unwrap_or_default().as_bytes(), to));
        iter::successors(first, move |step| {
            let last = step.as_ref().ok()?.last()?;
            Some(self.step("key > ?1", &last.key, to))
        })
    }

    fn damaged(&self, key: &[u8]) -> Error {
        Error::DamagedEvent {
            path: self.path.clone(),
            key: String::from_utf8_lossy(key).into_owned(),
        }
    }

    /// The next rows behind a key.
    fn step(&self, start: &str, key: &[u8], to: Option<&str>) -> Result<Vec<RawEvent>, Error> {
        let sql = format!(
            "SELECT key, event, digest FROM events
             WHERE {start} AND (?2 IS NULL OR key <= ?2) ORDER BY key LIMIT ?3"
        );
        // As text, whatever its bytes: SQLite orders other types behind all text.
        let key = ToSqlOutput::Borrowed(ValueRef::Text(key));
        self.read("read", |connection| {
            connection
                .prepare_cached(&sql)
                .and_then(|mut select| read_step(select.query(params![key, to, STEP_EVENTS])?))
        })
    }
}

fn changes_too_often(path: &Path) -> Error {
    Error::StoreFormat {
        path: path.to_owned(),
        reason: "it is opened and closed by others all the time".to_owned(),
    }
}

/// An error in one line, with what it came of.
fn with_cause(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
