//! One connection of a store's writer, with the files that it has open.
//!
//! Never opens a second one.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, MAIN_DB, OpenFlags, Transaction, TransactionBehavior};

use super::connection::{WriteError, is_busy};
use super::copies::{OF_FOREIGN_WAL, OF_OLD_WAL, set_aside};
use super::identity::{Stamp, StoreFiles, links};
use super::location::bytes_in;
use super::opening::{CHECKPOINT_NOT_ON_CLOSE, connect};
use super::rescue::Modes;
use super::wal_mark::WalMark;
use super::wal_size::{Frames, Mode};
use super::{log, store_error};
use crate::error::Error;

/// At how many pages in the log they are moved to the database: as many as SQLite has by itself.
const CHECKPOINT_PAGES: u64 = 1000;

/// How often a store is looked at until all that is seen is of the same moment.
const LOOKS_TO_REMEMBER: usize = 3;

#[derive(Debug)]
pub(super) struct Connected {
    pub(super) connection: Connection,
    /// Whether all that stands in the log is on the disk. Until then nothing is acknowledged, and
    /// nothing goes from the log to the database, which a loss of power would leave half done.
    is_log_synced: bool,
    has_checkpoints: bool,
    pub(super) files: StoreFiles,
    pub(super) modes: Modes,
    pub(super) page_bytes: u64,
    /// What the WAL had when it was last looked at.
    pub(super) wal: WalMark,
    /// What the database was when it was last known to be what SQLite made.
    pub(super) stamp: Stamp,
    /// What the WAL had then, or later while the database was still the same.
    pub(super) stamped: WalMark,
    /// Whether somebody is changing the database, so that nothing may be moved to it until it is known
    /// that this was SQLite.
    pub(super) is_changing: bool,
    pub(super) links: u64,
}

impl Connected {
    /// Connects, and syncs the log unless another process is writing to it.
    pub(super) fn open(
        path: &Path,
        create: OpenFlags,
        has_checkpoints: bool,
    ) -> Result<Self, Error> {
        let fail = store_error(path, "open");
        let mut connection = connect(path, create)?;
        let mut is_log_synced = false;
        match begin(&mut connection, path, has_checkpoints, &mut is_log_synced) {
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
        let mut connected = Self {
            connection,
            is_log_synced,
            has_checkpoints,
            modes: Modes::of(&files.database),
            page_bytes: page_bytes.unsigned_abs(),
            files,
            wal: WalMark::default(),
            stamp: Stamp::of(&found),
            stamped: WalMark::default(),
            is_changing: false,
            links: links(&found),
        };
        connected.remember();
        Ok(connected)
    }

    pub(super) fn begin(&mut self, path: &Path) -> Result<Transaction<'_>, WriteError> {
        let has_checkpoints = self.has_checkpoints;
        let is_log_synced = &mut self.is_log_synced;
        begin(&mut self.connection, path, has_checkpoints, is_log_synced)
    }

    /// As where another process wrote to the log while the store was opened.
    #[cfg(test)]
    pub(super) fn forget_sync(&mut self) {
        self.is_log_synced = false;
    }

    /// Whether what is in the log may go to the database.
    pub(super) fn may_checkpoint(&self) -> bool {
        self.has_checkpoints && self.is_log_synced && !self.is_changing
    }

    /// Moves to the database what is in the log, if that is much and nobody is reading it.
    pub(super) fn checkpoint(&mut self) -> rusqlite::Result<()> {
        if self.may_checkpoint() && self.wal.frames.written >= CHECKPOINT_PAGES {
            let done = Frames::after(&self.connection, Mode::Passive);
            self.remember();
            done?;
        }
        Ok(())
    }

    /// Takes what is there now for what SQLite made.
    pub(super) fn remember(&mut self) {
        // Of the same moment, although others may move pages in between.
        for _ in 0..LOOKS_TO_REMEMBER {
            let before = self.wal_mark().ok().flatten();
            if let Ok(found) = fs::metadata(&self.files.database) {
                self.stamp = Stamp::of(&found);
            }
            let Some(before) = before else { continue };
            (self.wal, self.stamped) = (before, before);
            let now = self.wal_mark().ok().flatten();
            if now.is_some_and(|now| !before.has_moved_until(now)) {
                break;
            }
        }
        self.is_changing = false;
    }

    /// What the WAL has now; `None` where SQLite can't tell that at the moment.
    pub(super) fn wal_mark(&self) -> rusqlite::Result<Option<WalMark>> {
        for _ in 0..LOOKS_TO_REMEMBER {
            let round = self.files.wal_round();
            let asked = Frames::after(&self.connection, Mode::Noop)?;
            // Another process may begin it anew in between.
            if asked.is_known && round == self.files.wal_round() {
                let frames = asked.frames;
                return Ok(Some(WalMark { frames, round }));
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
        if !self.files.has_foreign_wal(self.wal.round) {
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

    /// Closes the store; who is alone with it moves all to the database and removes the WAL.
    pub(super) fn close_with_checkpoint(self) -> rusqlite::Result<()> {
        self.connection
            .set_db_config(CHECKPOINT_NOT_ON_CLOSE, false)?;
        self.connection.close().map_err(|(_, error)| error)
    }
}

/// Whether SQLite finds another file than the database at its path, or none.
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

/// Begins a transaction, before which all is on the disk.
fn begin<'a>(
    connection: &'a mut Connection,
    path: &Path,
    has_checkpoints: bool,
    is_log_synced: &mut bool,
) -> Result<Transaction<'a>, WriteError> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(WriteError::Sqlite)?;
    if !*is_log_synced {
        log::write_again(path).map_err(WriteError::Store)?;
        transaction
            .set_db_config(CHECKPOINT_NOT_ON_CLOSE, !has_checkpoints)
            .map_err(WriteError::Sqlite)?;
        *is_log_synced = true;
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
