//! Writes batches of puts into the store, each batch one transaction.
//!
//! Never overwrites, never updates, never deletes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::types::ValueRef;
use rusqlite::{Row, Transaction, params};

use super::schema::digest;
use super::write_error::{WriteError, is_busy};
use super::writer_connection::WriterConnection;
use crate::error::Error;
use crate::metrics::Writers;
use crate::metrics::histogram::{Histogram, Stopwatch};
use crate::metrics::sink_metrics::StoreMetrics;
use crate::sink::group_commit::{Closed, Record, Writer};
use crate::sink::reason::Reason;
use crate::sink::{BUSY_RETRY_SECONDS, PutError};

/// How often the files of a store are looked at while no put comes in: a file that was removed is
/// noticed before the process is likely to end.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The size in bytes up to which a stored event is read with its digest: it fits one page then.
const MAX_READ_BYTES: i64 = 2048;

/// The outcome of a put.
#[derive(Debug)]
pub(crate) enum InsertOutcome {
    /// Its event is stored, byte for byte.
    Stored,
    /// The key holds this event. Its bytes differ; its value may be the same.
    Differs(StoredEvent),
    /// What the key holds is damaged.
    Damaged,
}

/// What a key holds.
#[derive(Debug)]
pub(crate) struct StoredEvent {
    /// The digest of key and event.
    pub(crate) digest: [u8; blake3::OUT_LEN],
    /// The event, unless it is large.
    pub(crate) event: Option<String>,
}

/// What a transaction found.
enum InsertAttempt {
    /// Nothing, and stored the event.
    Nothing,
    Row {
        digest: Vec<u8>,
        /// `None` of a large one.
        event: Option<Vec<u8>>,
    },
}

/// The one writer of a store in this process.
#[derive(Debug)]
pub(crate) struct StoreWriter {
    connection: WriterConnection,
    /// Why the last write was unavailable, where it was.
    unavailable: Reason,
    metrics: Arc<StoreMetrics>,
}

impl StoreWriter {
    /// Opens the store at `path`, which is made if it is not there.
    pub(crate) fn open(path: &Path, max_wal_bytes: u64) -> Result<Self, Error> {
        let connection = WriterConnection::new(path, max_wal_bytes)?;
        let writer = Self {
            connection,
            unavailable: Reason::StoreBusy,
            metrics: Arc::new(StoreMetrics::new(max_wal_bytes)),
        };
        writer.update_metrics();
        Ok(writer)
    }

    /// The numbers of the store.
    pub(crate) fn metrics(&self) -> Arc<StoreMetrics> {
        Arc::clone(&self.metrics)
    }

    /// Publishes the state of the files.
    fn update_metrics(&self) {
        self.metrics
            .set_fault(self.connection.fault.current.as_deref());
        if let Some(bytes) = self.connection.wal_bytes() {
            self.metrics.wal_bytes.set(bytes);
        }
        if let Some(bytes) = self.connection.database_bytes() {
            self.metrics.database_bytes.set(bytes);
        }
    }
}

impl Writer for StoreWriter {
    type Written = InsertOutcome;

    fn write(&mut self, records: &[Record]) -> Vec<Result<InsertOutcome, PutError>> {
        // Before the transaction, which other processes wait for.
        let digests: Vec<_> = records
            .iter()
            .map(|record| digest(&record.key, &record.event))
            .collect();
        let last_new_key = |found: &Vec<InsertAttempt>| {
            let mut puts = found.iter().zip(records).rev();
            let last = puts.find(|(found, _)| matches!(found, InsertAttempt::Nothing))?;
            Some(last.1.key.clone())
        };
        let commit_time = &self.metrics.commit_time;
        let insert = |batch: Transaction<'_>| insert_all(batch, records, &digests, commit_time);
        let found = (self.connection).transact(insert, last_new_key);
        self.update_metrics();
        match found {
            Ok(found) => {
                let puts = found.into_iter().zip(records).zip(&digests);
                puts.map(|((found, sent), digest)| Ok(classify(found, sent, digest)))
                    .collect()
            }
            Err(error) => {
                self.unavailable = match &error {
                    WriteError::WalFull => Reason::WalFull,
                    _ => Reason::StoreBusy,
                };
                let error = error.for_each_put();
                records.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    fn unavailable_reason(&self) -> Reason {
        self.unavailable
    }

    fn idle_interval(&self) -> Option<Duration> {
        Some(LOOK_INTERVAL)
    }

    fn idle(&mut self) {
        self.connection.inspect_idle();
        self.update_metrics();
    }

    fn close(&mut self) -> Closed {
        match self.connection.close() {
            true => Closed::EventsLost,
            false => Closed::Complete,
        }
    }
}

impl WriteError {
    fn for_each_put(self) -> PutError {
        match &self {
            Self::Sqlite(error) if is_busy(error) => PutError::Unavailable {
                retry_after_seconds: BUSY_RETRY_SECONDS,
            },
            Self::WalFull => PutError::Unavailable {
                retry_after_seconds: BUSY_RETRY_SECONDS,
            },
            Self::Sqlite(_) | Self::Changed(_) => PutError::Failed(self.to_string()),
            Self::Store(error) => PutError::Failed(match std::error::Error::source(error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            }),
        }
    }
}

/// Inserts the records whose keys are free. Of the others it reads what takes no longer the more is
/// stored.
fn insert_all(
    transaction: Transaction<'_>,
    records: &[Record],
    digests: &[[u8; blake3::OUT_LEN]],
    commit_time: &Histogram,
) -> rusqlite::Result<Vec<InsertAttempt>> {
    let received_ms = unix_milliseconds();
    let found = {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO events (key, digest, received_ms, event) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (key) DO NOTHING",
        )?;
        let mut select = transaction.prepare_cached(
            "SELECT digest, CASE WHEN octet_length(event) <= ?2 THEN event END
             FROM events WHERE key = ?1",
        )?;
        let insert_one = |(record, digest): (&Record, &[u8; blake3::OUT_LEN])| {
            let Record { key, event } = record;
            match insert.execute(params![key, digest, received_ms, event])? {
                0 => select.query_row(params![key, MAX_READ_BYTES], read_row),
                _ => Ok(InsertAttempt::Nothing),
            }
        };
        let records = records.iter().zip(digests);
        records.map(insert_one).collect::<Result<_, _>>()?
    };
    let start = Stopwatch::start();
    transaction.commit()?;
    commit_time.observe_since(start, Writers::One);
    Ok(found)
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<InsertAttempt> {
    let bytes = |column| match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok::<_, rusqlite::Error>(Some(bytes)),
        _ => Ok(None),
    };
    Ok(InsertAttempt::Row {
        digest: bytes(0)?.unwrap_or_default().to_vec(),
        event: bytes(1)?.map(<[u8]>::to_vec),
    })
}

/// Compares what a key holds with what was to be put, as far as digests tell.
fn classify(
    found: InsertAttempt,
    sent: &Record,
    sent_digest: &[u8; blake3::OUT_LEN],
) -> InsertOutcome {
    let InsertAttempt::Row {
        digest: stored,
        event,
    } = found
    else {
        return InsertOutcome::Stored;
    };
    let Ok(stored) = <[u8; blake3::OUT_LEN]>::try_from(stored) else {
        return InsertOutcome::Damaged;
    };
    let event = match event {
        Some(event) if digest(&sent.key, &event) != stored => return InsertOutcome::Damaged,
        event => event.map(String::from_utf8),
    };
    match event.transpose() {
        Err(_no_text) => InsertOutcome::Damaged,
        Ok(_) if stored == *sent_digest => InsertOutcome::Stored,
        Ok(event) => InsertOutcome::Differs(StoredEvent {
            digest: stored,
            event,
        }),
    }
}

/// The time in milliseconds since 1970 UTC; a clock before that counts as then.
fn unix_milliseconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
