//! An open connection of the writer, with the files that it has open and their last known state.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, MAIN_DB, OpenFlags, Transaction, TransactionBehavior};

use super::copy_names::{OF_FOREIGN_WAL, OF_OLD_WAL, set_aside};
use super::file_id::{FileStamp, links};
use super::open_for_write::{CHECKPOINT_NOT_ON_CLOSE, connect};
use super::rescue::Modes;
use super::side_files::bytes_in;
use super::store_error::store_error;
use super::store_files::StoreFiles;
use super::wal;
use super::wal_position::WalPosition;
use super::wal_size::{Frames, Mode};
use super::write_error::{WriteError, is_busy};
use crate::error::Error;

/// The number of frames in the WAL at which it is checkpointed: SQLite's default.
const CHECKPOINT_PAGES: u64 = 1000;

/// The most attempts to read database and WAL in a consistent state.
const MAX_SNAPSHOTS: usize = 3;

#[derive(Debug)]
pub(super) struct OpenStore {
    pub(super) connection: Connection,
    /// Whether the whole WAL is on the disk. Until then nothing is acknowledged or checkpointed: a loss of power
    /// would leave half of a checkpoint.
    is_wal_synced: bool,
    has_checkpoints: bool,
    pub(super) files: StoreFiles,
    pub(super) modes: Modes,
    pub(super) page_bytes: u64,
    /// The WAL when it was last checked.
    pub(super) wal: WalPosition,
    /// The database file when it was last known to be unchanged by other programs.
    pub(super) stamp: FileStamp,
    /// The WAL at that time, or later while the database file was still the same.
    pub(super) stamped: WalPosition,
    /// Whether the database file is changing for a reason that is not known yet. Until it is known to be a
    /// checkpoint of another connection, none is made.
    pub(super) is_changing: bool,
    pub(super) links: u64,
}

impl OpenStore {
    /// Connects, and syncs the WAL unless another process is writing to it.
    pub(super) fn open(
        path: &Path,
        create: OpenFlags,
        has_checkpoints: bool,
    ) -> Result<Self, Error> {
        let fail = store_error(path, "open");
        let mut connection = connect(path, create)?;
        let mut is_wal_synced = false;
        match begin(&mut connection, path, has_checkpoints, &mut is_wal_synced) {
            Ok(_) => {}
            Err(WriteError::Sqlite(error)) if is_busy(&error) => {}
            Err(WriteError::Store(error)) => return Err(error),
            Err(WriteError::Sqlite(error)) => return Err(fail(error)),
            Err(WriteError::Changed(_) | WriteError::WalFull) => {}
        }
        let is_here = || !has_moved(&connection);
        let files = StoreFiles::at(path, is_here).map_err(|source| Error::File {
            operation: "open",
            path: path.to_owned(),
            source,
        })?;
        let page_bytes: i64 = connection
            .pragma_query_value(None, "page_size", |row| row.get(0))
            .map_err(&fail)?;
        let found = fs::metadata(&files.database).map_err(|source| Error::File {
            operation: "open",
            path: path.to_owned(),
            source,
        })?;
        let mut open_store = Self {
            connection,
            is_wal_synced,
            has_checkpoints,
            modes: Modes::of(&files.database),
            page_bytes: page_bytes.unsigned_abs(),
            files,
            wal: WalPosition::default(),
            stamp: FileStamp::of(&found),
            stamped: WalPosition::default(),
            is_changing: false,
            links: links(&found),
        };
        open_store.remember();
        Ok(open_store)
    }

    pub(super) fn begin(&mut self, path: &Path) -> Result<Transaction<'_>, WriteError> {
        let has_checkpoints = self.has_checkpoints;
        let is_wal_synced = &mut self.is_wal_synced;
        begin(&mut self.connection, path, has_checkpoints, is_wal_synced)
    }

    /// As if another process had written to the WAL while the store was opened.
    #[cfg(test)]
    pub(super) fn forget_sync(&mut self) {
        self.is_wal_synced = false;
    }

    /// Whether the WAL may be checkpointed.
    pub(super) fn can_checkpoint(&self) -> bool {
        self.has_checkpoints && self.is_wal_synced && !self.is_changing
    }

    /// Checkpoints a long WAL, as far as readers allow.
    pub(super) fn checkpoint(&mut self) -> rusqlite::Result<()> {
        if self.can_checkpoint() && self.wal.frames.written >= CHECKPOINT_PAGES {
            let done = Frames::after(&self.connection, Mode::Passive);
            self.remember();
            done?;
        }
        Ok(())
    }

    /// Takes the present state of database and WAL as made by SQLite.
    pub(super) fn remember(&mut self) {
        // Another process may checkpoint in between.
        for _ in 0..MAX_SNAPSHOTS {
            let before = self.wal_position().ok().flatten();
            if let Ok(found) = fs::metadata(&self.files.database) {
                self.stamp = FileStamp::of(&found);
            }
            let Some(before) = before else { continue };
            (self.wal, self.stamped) = (before, before);
            let now = self.wal_position().ok().flatten();
            if now.is_some_and(|now| !before.was_checkpointed_until(now)) {
                break;
            }
        }
        self.is_changing = false;
    }

    /// The WAL now; `None` while another process is changing it.
    pub(super) fn wal_position(&self) -> rusqlite::Result<Option<WalPosition>> {
        for _ in 0..MAX_SNAPSHOTS {
            let generation = self.files.wal_generation();
            let asked = Frames::after(&self.connection, Mode::Noop)?;
            // Another process may restart it in between.
            if asked.is_known && generation == self.files.wal_generation() {
                let frames = asked.frames;
                return Ok(Some(WalPosition { frames, generation }));
            }
        }
        Ok(None)
    }

    /// How many bytes the file system lacks, or a limit of this process leaves out, for a database that has all of the WAL.
    pub(super) fn missing_bytes(&self) -> rusqlite::Result<u64> {
        let pages =
            (self.connection).query_row("PRAGMA page_count", (), |row| row.get::<_, i64>(0))?;
        let pages = u64::try_from(pages).unwrap_or(0);
        let whole = pages.saturating_mul(self.page_bytes);
        let more = whole.saturating_sub(bytes_in(&self.files.database));
        let lacking = more.saturating_sub(free_bytes(&self.files.database));
        Ok(lacking.max(whole.saturating_sub(max_file_bytes())))
    }

    /// Gives a file another name that somebody has put in the place of the WAL. SQLite would recover the
    /// database from it, or remove it.
    pub(super) fn set_foreign_wal_aside(&self) {
        if !self.files.has_foreign_wal(self.wal.generation) {
            return;
        }
        let (wal, database) = (&self.files.wal, &self.files.database);
        match set_aside(wal, database, OF_FOREIGN_WAL) {
            Ok(aside) => tracing::error!(
                "{} was not the WAL of the store {}: it is {} now, and nothing was read from it",
                wal.display(),
                database.display(),
                aside.display()
            ),
            Err(error) => tracing::error!(
                "{} is not the WAL of the store {}, and can't be renamed: {error}",
                wal.display(),
                database.display()
            ),
        }
    }

    /// Gives the WAL of a database that is gone, and of which there is a copy, another name: another database
    /// may be beside it.
    pub(super) fn set_own_wal_aside(&self) {
        let (wal, database) = (&self.files.wal, &self.files.database);
        if self.files.has_other_wal() || bytes_in(wal) == 0 {
            return;
        }
        if let Err(error) = set_aside(wal, database, OF_OLD_WAL) {
            let wal = wal.display();
            tracing::error!("{wal} can't be renamed, and belongs to no database: {error}");
        }
    }

    /// Closes the store. The last connection checkpoints the WAL and removes it.
    pub(super) fn close_with_checkpoint(self) -> rusqlite::Result<()> {
        self.connection
            .set_db_config(CHECKPOINT_NOT_ON_CLOSE, false)?;
        self.connection.close().map_err(|(_, error)| error)
    }
}

/// Whether the database file is no longer at its path (`SQLITE_FCNTL_HAS_MOVED`).
fn has_moved(connection: &Connection) -> bool {
    #[cfg(unix)]
    {
        let mut has_moved = 0;
        let asked = rusqlite::FileControl::HasMoved(&mut has_moved);
        connection.file_control(Some(MAIN_DB), asked).is_err() || has_moved != 0
    }
    #[cfg(not(unix))]
    {
        let _ = connection;
        false
    }
}

/// Begins a transaction, after syncing a WAL that another process left.
fn begin<'a>(
    connection: &'a mut Connection,
    path: &Path,
    has_checkpoints: bool,
    is_wal_synced: &mut bool,
) -> Result<Transaction<'a>, WriteError> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(WriteError::Sqlite)?;
    if !*is_wal_synced {
        wal::rewrite_and_sync(path).map_err(WriteError::Store)?;
        transaction
            .set_db_config(CHECKPOINT_NOT_ON_CLOSE, !has_checkpoints)
            .map_err(WriteError::Sqlite)?;
        *is_wal_synced = true;
    }
    Ok(transaction)
}

/// The size in bytes beyond which this process may write no file.
#[cfg(unix)]
fn max_file_bytes() -> u64 {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX)
}

#[cfg(not(unix))]
fn max_file_bytes() -> u64 {
    u64::MAX
}

/// How many bytes the file system of a file has for more.
#[cfg(unix)]
fn free_bytes(path: &Path) -> u64 {
    match rustix::fs::statvfs(path) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(_) => u64::MAX,
    }
}

#[cfg(not(unix))]
fn free_bytes(_path: &Path) -> u64 {
    u64::MAX
}
