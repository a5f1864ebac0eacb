//! Writes batches of puts into the store, each batch one transaction.
//!
//! Never overwrites, never updates, never deletes.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::types::ValueRef;
use rusqlite::{Transaction, params};

use super::connection::{Connector, WriteError, is_busy};
use super::digest;
use crate::error::Error;
use crate::group_commit::{Record, Writer};
use crate::sink::PutError;

/// After how many seconds to try a put again that met a locked store.
const LOCKED_RETRY_SECONDS: u32 = 1;

/// How often the files of a store are looked at while no put comes in: a file that was removed is
/// noticed before the process is likely to end.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The size in bytes up to which an event that differs from a held one is compared with a copy of
/// that. Of larger ones, so many copies could wait at a time that they would fill the memory.
const MAX_COPIED_BYTES: usize = 64 * 1024;

/// What became of a put.
#[derive(Debug)]
pub(crate) enum Written {
    /// Its event is stored, byte for byte.
    Stored,
    /// The key holds an event with other bytes, which may be the same value.
    Differs {
        /// What was to be put.
        sent: Record,
        /// What the key holds, unless it is large.
        held: Option<String>,
    },
    /// The key holds what is no text any more.
    Damaged,
}

/// The one writer of a store in this process.
#[derive(Debug)]
pub(crate) struct StoreWriter(Connector);

impl StoreWriter {
    /// Opens the store at `path`, which is made if it is not there.
    pub(crate) fn open(path: &Path, max_wal_bytes: u64) -> Result<Self, Error> {
        Connector::new(path, max_wal_bytes).map(Self)
    }
}

impl Writer for StoreWriter {
    type Written = Written;

    fn write(&mut self, records: &[Record]) -> Vec<Result<Written, PutError>> {
        let key = records.last().map(|record| record.key.as_str());
        let written = self.0.transact(key, |batch| insert_all(batch, records));
        match written {
            Ok(written) => written.into_iter().map(Ok).collect(),
            Err(error) => {
                let error = error.for_each_put();
                records.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    fn idle_interval(&self) -> Option<Duration> {
        Some(LOOK_INTERVAL)
    }

    fn idle(&mut self) {
        self.0.tick();
    }
}

impl WriteError {
    fn for_each_put(self) -> PutError {
        match &self {
            Self::Sqlite(error) if is_busy(error) => PutError::Unavailable {
                retry_after_seconds: LOCKED_RETRY_SECONDS,
            },
            Self::WalFull => PutError::Unavailable {
                retry_after_seconds: LOCKED_RETRY_SECONDS,
            },
            Self::Sqlite(error) => PutError::Failed(error.to_string()),
            Self::Changed(_) => PutError::Failed(self.to_string()),
            Self::Store(error) => PutError::Failed(match std::error::Error::source(error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            }),
        }
    }
}

fn insert_all(transaction: Transaction<'_>, records: &[Record]) -> rusqlite::Result<Vec<Written>> {
    let received_ms = unix_milliseconds();
    let written = {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO events (key, event, digest, received_ms) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (key) DO NOTHING",
        )?;
        let mut select = transaction.prepare_cached("SELECT event FROM events WHERE key = ?1")?;
        let insert_one = |record: &Record| {
            let Record { key, event } = record;
            match insert.execute(params![key, event, digest(key, event), received_ms])? {
                0 => select.query_row([key], |row| compare(row.get_ref(0)?, record)),
                _ => Ok(Written::Stored),
            }
        };
        records.iter().map(insert_one).collect::<Result<_, _>>()?
    };
    transaction.commit()?;
    Ok(written)
}

/// Compares what a key holds with what was to be put, as far as their bytes tell.
fn compare(held: ValueRef<'_>, sent: &Record) -> rusqlite::Result<Written> {
    let Ok(held) = held.as_bytes() else {
        return Ok(Written::Damaged);
    };
    if held == sent.event.as_bytes() {
        return Ok(Written::Stored);
    }
    let Ok(held) = std::str::from_utf8(held) else {
        return Ok(Written::Damaged);
    };
    let is_small = held.len() + sent.event.len() <= MAX_COPIED_BYTES;
    Ok(Written::Differs {
        sent: sent.clone(),
        held: is_small.then(|| held.to_owned()),
    })
}

/// The time in milliseconds since 1970 UTC; a clock before that counts as then.
fn unix_milliseconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
