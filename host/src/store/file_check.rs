//! Checks the files of a store before and after each write.
//!
//! What is done about a change is in `recovery`.

use rusqlite::ffi;

use super::integrity::{ExpectedKey, is_intact};
use super::open_store::OpenStore;
use super::store_files::{FileChange, FileEvent, FileRole};
use super::wal_generation::generations_between;
use super::wal_position::WalPosition;

/// The most checks of a WAL before its file counts as changed by another program.
const WAL_CHECKS: usize = 3;

/// The result of a check that found no harm.
pub(super) enum FileCheck {
    Unchanged,
    /// Another program than SQLite wrote to the database, which is intact.
    Touched,
}

/// Why a database file changed.
enum Cause {
    /// A finished checkpoint.
    Checkpoint,
    /// Perhaps a checkpoint that still runs.
    CheckpointUnderWay,
    /// Nothing that the WAL shows.
    Unknown,
}

/// Why a commit is not acknowledged.
pub(super) enum CheckError {
    Change(FileChange),
    Sqlite(rusqlite::Error),
}

impl OpenStore {
    /// Checks that the files are those that were opened, and not shorter.
    pub(super) fn check_files(
        &mut self,
        expected_key: Option<&str>,
        last_key: Option<&str>,
    ) -> Result<FileCheck, CheckError> {
        let seen = self.wal;
        let snapshot = self.files.snapshot().map_err(CheckError::Change)?;
        if snapshot.links != self.links {
            self.links = snapshot.links;
            if snapshot.links > 1 {
                tracing::warn!(
                    "{} has {} hard links: a server that opens another of its names loses events",
                    self.files.database.display(),
                    snapshot.links
                );
            }
        }
        if snapshot.wal_bytes < self.wal.frames.bytes(self.page_bytes)
            || self.files.wal_generation() != self.wal.generation
            || !self.has_page(self.wal.frames.written)
        {
            self.check_wal_file(last_key)?;
        }
        if snapshot.database == self.stamp {
            self.stamped = seen;
            self.is_changing = false;
            return Ok(FileCheck::Unchanged);
        }
        let changed = |event| {
            Err(CheckError::Change(
                self.files.change(FileRole::Database, event),
            ))
        };
        // SQLite would delete the WAL of a database that has no page.
        if snapshot.database.bytes < self.page_bytes {
            return changed(FileEvent::CutOff);
        }
        let is_shorter = snapshot.database.bytes < self.stamp.bytes;
        match self.cause().map_err(CheckError::Sqlite)? {
            Cause::Checkpoint => {
                self.remember();
                Ok(FileCheck::Unchanged)
            }
            Cause::CheckpointUnderWay => {
                self.is_changing = true;
                Ok(FileCheck::Unchanged)
            }
            // Only read before that is known: what is there may be another's.
            Cause::Unknown
                if is_intact(&self.files.database, self.expected_key(expected_key))
                    .map_err(CheckError::Sqlite)? =>
            {
                self.remember();
                Ok(FileCheck::Touched)
            }
            Cause::Unknown if is_shorter => changed(FileEvent::CutOff),
            Cause::Unknown => changed(FileEvent::Overwritten),
        }
    }

    /// That with which the database is known again.
    fn expected_key<'a>(&self, key: Option<&'a str>) -> Option<ExpectedKey<'a>> {
        let checkpointed = self.stamped.frames;
        Some(ExpectedKey {
            key: key?,
            // Where a part of the WAL has been moved, the database is nothing by itself.
            is_in_database: checkpointed.checkpointed == 0 || checkpointed.is_all_checkpointed(),
        })
    }

    /// What changed the database.
    fn cause(&self) -> rusqlite::Result<Cause> {
        let is_held = match self.shows_checkpoint()? {
            Some(true) => return Ok(Cause::Checkpoint),
            Some(false) => self.files.has_checkpoint(),
            None => true,
        };
        // One that ended meanwhile shows now.
        match self.shows_checkpoint()? {
            Some(true) => Ok(Cause::Checkpoint),
            Some(false) if !is_held => Ok(Cause::Unknown),
            Some(false) | None => Ok(Cause::CheckpointUnderWay),
        }
    }

    /// Whether the WAL shows a checkpoint; `None` where SQLite can't tell at the moment.
    fn shows_checkpoint(&self) -> rusqlite::Result<Option<bool>> {
        let now = self.wal_position()?;
        Ok(now.map(|now| {
            self.stamped.was_checkpointed_until(now) || self.was_appended_before_restart(now)
        }))
    }

    /// Whether a WAL that was checkpointed completely was appended to before it was restarted: then the
    /// appended frames were checkpointed too. The next frame of the old generation shows that, unless the new
    /// generation has overwritten it or the file was truncated before it.
    fn was_appended_before_restart(&self, now: WalPosition) -> bool {
        let (from, frames) = (self.stamped.generation, self.stamped.frames);
        let has_next =
            |generation| (self.files).has_page(frames.written + 1, self.page_bytes, generation);
        generations_between(from, now.generation) == Some(1)
            && (self.files.wal_bytes() < frames.bytes(self.page_bytes)
                || [from, now.generation].into_iter().flatten().any(has_next))
    }

    /// Checks that the file at the path of the WAL has the frames that SQLite knows of.
    ///
    /// Another process may restart the WAL in between, so a difference is checked again.
    pub(super) fn check_wal_file(&mut self, last_key: Option<&str>) -> Result<(), CheckError> {
        let was = self.wal;
        let before = was.frames;
        let mut is_known = false;
        let last = last_key.map(|key| ExpectedKey {
            key,
            is_in_database: false,
        });
        for _ in 0..WAL_CHECKS {
            let Some(now) = self.wal_position().map_err(CheckError::Sqlite)? else {
                continue;
            };
            is_known = true;
            self.wal = now;
            let after = now.frames;
            // The last page of before is gone if the WAL was cut off before the last write.
            let pages = [before.written.min(after.written), after.written];
            if !pages.into_iter().all(|page| self.has_page(page)) {
                continue;
            }
            let may_be_new = before.written == 0
                || before.is_all_checkpointed()
                || after.written < before.written;
            if after.written == 0
                || self.wal.generation == was.generation
                || generations_between(was.generation, self.wal.generation).is_some()
                || may_be_new && after != before
                || is_intact(&self.files.database, last).map_err(CheckError::Sqlite)?
            {
                return Ok(());
            }
            break;
        }
        if !is_known {
            let busy = ffi::Error::new(ffi::SQLITE_BUSY);
            return Err(CheckError::Sqlite(rusqlite::Error::SqliteFailure(
                busy, None,
            )));
        }
        let event = match self.files.wal_bytes() < self.wal.frames.bytes(self.page_bytes) {
            true => FileEvent::CutOff,
            false => FileEvent::Overwritten,
        };
        // So that the next look sees it too.
        self.wal = was;
        Err(CheckError::Change(self.files.change(FileRole::Wal, event)))
    }

    fn has_page(&self, page: u64) -> bool {
        let has_page = |generation| self.files.has_page(page, self.page_bytes, generation);
        page == 0 || self.wal.generation.is_some_and(has_page)
    }
}
