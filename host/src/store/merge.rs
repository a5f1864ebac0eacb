//! Inserts the events of a rescued copy into the store again.
//!
//! Overwrites no event of the store, and removes no copy before its events are on the disk.

use std::fs;
use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, Transaction, ffi};

use super::copy_names::{OF_CONFLICTS, file_error, set_aside};
use super::integrity::is_corruption;
use super::open_store::OpenStore;
use super::overwritten_mark;
use super::rescue::{ALL_PAGES, path_as_text};
use super::schema::{format_error, open};
use super::side_files::bytes_in;
use super::store_error::store_error;
use super::write_error::{WriteError, needs_reconnect};
use super::writer_connection::WriterConnection;
use crate::error::Error;

impl WriterConnection {
    /// Inserts the events of all copies of a WAL.
    pub(super) fn merge_rescued(&mut self) -> Result<(), WriteError> {
        while let Some(copy) = self.to_merge.last().cloned() {
            let Some(open_store) = &mut self.open_store else {
                return Ok(());
            };
            let database = open_store.files.database.clone();
            if bytes_in(&copy) == 0 {
                tracing::warn!("{} was removed before it was read", copy.display());
            } else {
                let merged = merge(open_store, &self.path, &copy);
                let conflicts = merged.map_err(|error| self.discard_if_spoiled(error))?;
                // The copy stands for its events until they are where the next start looks for them.
                self.inspect_commit()?;
                if self.open_store.is_none() {
                    return Ok(());
                }
                end_copy(&copy, &database, conflicts).map_err(WriteError::Store)?;
                // Another server that could not read the WAL any more has made a mark. All servers share one
                // snapshot of it, so the copy has their events too.
                overwritten_mark::unmark(&database);
            }
            self.to_merge.retain(|other| *other != copy);
        }
        Ok(())
    }

    /// Drops the connection after errors such as a failed sync, after which nobody knows what is on the disk.
    fn discard_if_spoiled(&mut self, error: WriteError) -> WriteError {
        let needs_reconnect = match &error {
            WriteError::Sqlite(error) => needs_reconnect(error),
            // The WAL could not be written again.
            WriteError::Store(error) => matches!(error, Error::File { .. }),
            WriteError::Changed(_) | WriteError::WalFull => false,
        };
        if needs_reconnect {
            self.discard();
        }
        error
    }
}

/// Inserts the events of a copy into its store, synced as those of a put. Returns the number of conflicts: keys
/// under which the store has other events, which stay.
fn merge(open_store: &mut OpenStore, path: &Path, copy: &Path) -> Result<i64, WriteError> {
    read_all(copy).map_err(WriteError::Store)?;
    if !is_sound(&open_store.connection)? {
        restore(open_store, path, copy)?;
        return Ok(0);
    }
    (open_store.connection)
        .execute("ATTACH DATABASE ?1 AS rescued", [path_as_text(copy)])
        .map_err(|error| WriteError::Store(store_error(copy, "read")(error)))?;
    let begun = open_store.begin(path);
    let copied = begun.and_then(|transaction| copy_events(transaction).map_err(WriteError::Sqlite));
    let detached = (open_store.connection).execute_batch("DETACH DATABASE rescued");
    let conflicts = copied?;
    detached.map_err(WriteError::Sqlite)?;
    Ok(conflicts)
}

/// Reads all of a copy: what fails after that is the store.
fn read_all(copy: &Path) -> Result<(), Error> {
    let fail = store_error(copy, "read");
    let connection = open(copy, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let check = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get::<_, String>(0));
    match check.map_err(fail)? {
        found if found == "ok" => Ok(()),
        found => Err(format_error(copy, format!("it is damaged: {found}"))),
    }
}

/// Whether tables and indexes of a store agree. Where a WAL was lost in the middle of a checkpoint, what it had
/// moved by then is in the database, and the rest is not.
fn is_sound(connection: &Connection) -> Result<bool, WriteError> {
    let check = connection.query_row("PRAGMA integrity_check(1)", (), |row| {
        row.get::<_, String>(0)
    });
    match check {
        Ok(found) => Ok(found == "ok"),
        Err(error) if is_corruption(&error) => Ok(false),
        Err(error) => Err(WriteError::Sqlite(error)),
    }
}

/// Has a damaged store be what its copy is: all that this server had acknowledged.
fn restore(open_store: &mut OpenStore, path: &Path, copy: &Path) -> Result<(), WriteError> {
    tracing::error!(
        "the store {} is damaged: all of it is taken from {}",
        path.display(),
        copy.display()
    );
    // Syncs what another left in the WAL.
    drop(open_store.begin(path)?);
    let source = open(copy, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(WriteError::Store)?;
    let copied =
        Backup::new(&source, &mut open_store.connection).and_then(|backup| backup.step(ALL_PAGES));
    match copied.map_err(WriteError::Sqlite)? {
        StepResult::Done => Ok(()),
        _ => {
            let busy = ffi::Error::new(ffi::SQLITE_BUSY);
            Err(WriteError::Sqlite(rusqlite::Error::SqliteFailure(
                busy, None,
            )))
        }
    }
}

fn copy_events(transaction: Transaction<'_>) -> rusqlite::Result<i64> {
    transaction.execute_batch("INSERT OR IGNORE INTO main.events SELECT * FROM rescued.events")?;
    let sql = "SELECT count(*) FROM rescued.events AS copy JOIN main.events AS held USING (key)
               WHERE copy.digest <> held.digest";
    let conflicts = transaction.query_row(sql, (), |row| row.get(0))?;
    transaction.commit()?;
    Ok(conflicts)
}

/// Removes a copy whose events are in the store. Where that has other events under some of their keys,
/// the copy is kept under another name.
fn end_copy(copy: &Path, database: &Path, conflicts: i64) -> Result<(), Error> {
    if conflicts > 0 {
        let kept = set_aside(copy, database, OF_CONFLICTS)?;
        tracing::error!(
            "{conflicts} rescued events conflict with events that the store {} has under the same keys by now: they are kept in {}",
            database.display(),
            kept.display()
        );
        return Ok(());
    }
    fs::remove_file(copy).map_err(file_error(copy, "remove"))?;
    tracing::warn!(
        "the events of {} are in the store {} again",
        copy.display(),
        database.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rusqlite::Connection;

    use crate::store::schema::SCHEMA;
    use crate::store::writer_connection::WriterConnection;
    use crate::store::{
        APPLICATION_ID, DEFAULT_MAX_WAL_BYTES, SCHEMA_VERSION, StoreReader, digest,
    };

    fn store_of(path: &Path, events: &[(&str, &str)]) {
        let store = Connection::open(path).expect("opens");
        store.execute_batch(SCHEMA).expect("makes the table");
        let pragma = |name, value: i32| store.pragma_update(None, name, value);
        pragma("application_id", APPLICATION_ID).expect("is set");
        pragma("user_version", SCHEMA_VERSION).expect("is set");
        for (key, event) in events {
            let sql = "INSERT INTO events (key, event, digest, received_ms) VALUES (?1, ?2, ?3, 0)";
            let row = (key, event, digest(key, event));
            store.execute(sql, row).expect("inserts");
        }
    }

    fn event_of(store: &Path, key: &str) -> String {
        let store = Connection::open(store).expect("opens");
        let sql = "SELECT event FROM events WHERE key = ?1";
        store.query_row(sql, [key], |row| row.get(0)).expect("has")
    }

    #[test]
    fn merge_keeps_copy_whose_keys_have_other_events() {
        let directory = tempfile::tempdir().expect("makes a directory");
        let database = directory.path().join("s.db");
        let copy = directory.path().join("s.db.rescued-wal");
        store_of(&database, &[("a", "1")]);
        store_of(&copy, &[("a", "2"), ("b", "3")]);
        let mut store = WriterConnection::new(&database, DEFAULT_MAX_WAL_BYTES).expect("merges");
        assert_eq!(event_of(&database, "a"), "1");
        assert_eq!(event_of(&database, "b"), "3");
        assert!(!copy.exists());
        let kept = directory.path().join("s.db.rescued-conflicts");
        assert_eq!(event_of(&kept, "a"), "2");
        // One that somebody has moved away keeps nobody out.
        store.to_merge.push(copy);
        store.connect().expect("goes on");
        assert!(store.to_merge.is_empty());
    }

    #[test]
    fn merge_syncs_what_another_left_in_the_wal() {
        let directory = tempfile::tempdir().expect("makes a directory");
        let database = directory.path().join("s.db");
        let copy = directory.path().join("s.db.rescued-wal");
        let mut store = WriterConnection::new(&database, DEFAULT_MAX_WAL_BYTES).expect("opens");
        let open_store = store.open_store.as_mut().expect("is connected");
        open_store.forget_sync();
        store_of(&copy, &[("a", "1")]);
        store.to_merge.push(copy.clone());
        store.connect().expect("merges");
        assert!(!copy.exists());
        let open_store = store.open_store.as_ref().expect("is connected");
        assert!(open_store.can_checkpoint());
    }

    /// As half a checkpoint leaves it: a page of the table is newer than one of its index.
    #[test]
    fn damaged_store_becomes_what_its_copy_is() {
        let directory = tempfile::tempdir().expect("makes a directory");
        let database = directory.path().join("s.db");
        let copy = directory.path().join("s.db.rescued-wal");
        store_of(&database, &[("a", "1")]);
        store_of(&copy, &[("a", "1"), ("b", "3")]);
        let index = Connection::open(&database).expect("opens");
        let sql = "SELECT rootpage FROM sqlite_schema WHERE type = 'index'";
        let page: u64 = index
            .query_row(sql, (), |row| row.get::<_, i64>(0))
            .map(i64::unsigned_abs)
            .expect("has one");
        drop(index);
        // The number of cells of a page is behind its type and its first free block.
        let mut bytes = std::fs::read(&database).expect("reads");
        let at = usize::try_from((page - 1) * 4096 + 3).expect("is small");
        bytes[at..at + 2].fill(0);
        std::fs::write(&database, bytes).expect("writes");
        let store = WriterConnection::new(&database, DEFAULT_MAX_WAL_BYTES).expect("restores");
        assert!(store.to_merge.is_empty() && !copy.exists());
        drop(store);
        assert_eq!(event_of(&database, "a"), "1");
        assert_eq!(event_of(&database, "b"), "3");
        let reader = StoreReader::open(&database).expect("opens");
        assert!(reader.verify(|_| {}).expect("verifies").is_clean());
    }

    /// What is committed to a WAL that is not at its path any more.
    #[test]
    fn merge_keeps_copy_whose_events_are_not_where_the_next_start_looks() {
        let directory = tempfile::tempdir().expect("makes a directory");
        let database = directory.path().join("s.db");
        let copy = directory.path().join("s.db.rescued-wal");
        let mut store = WriterConnection::new(&database, DEFAULT_MAX_WAL_BYTES).expect("opens");
        let away = directory.path().join("away.db");
        std::fs::rename(&database, &away).expect("moves");
        store_of(&copy, &[("a", "1")]);
        store.to_merge.push(copy.clone());
        store.merge_rescued().expect_err("is refused");
        assert!(copy.exists());
        std::fs::rename(&away, &database).expect("moves back");
        store.connect().expect("merges");
        assert!(!copy.exists());
        assert_eq!(event_of(&database, "a"), "1");
    }
}
