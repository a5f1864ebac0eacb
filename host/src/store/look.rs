//! Looks at the files of a store before and after each write.
//!
//! Never mends what it finds.

use rusqlite::ffi;

use super::connected::Connected;
use super::identity::{Change, Event, Role};
use super::wal_mark::{WalMark, rounds_between};
use super::wholeness::{Witness, is_whole};

/// How often a WAL is looked at before it is not what SQLite has in it.
const LOOKS_AT_WAL: usize = 3;

/// What came of a look.
pub(super) enum Looked {
    Unchanged,
    /// Another program wrote to the database, and it is whole.
    Touched,
}

/// What changed a database.
enum Cause {
    /// A checkpoint, which has ended.
    Checkpoint,
    /// Perhaps one that has not ended yet.
    CheckpointUnderWay,
    /// None that the WAL shows.
    Unknown,
}

/// Why a commit is not acknowledged.
pub(super) enum Refusal {
    Change(Change),
    Sqlite(rusqlite::Error),
}

impl Connected {
    /// Holds that the files are those that were opened, and as long as they were.
    pub(super) fn look(
        &mut self,
        witness: Option<&str>,
        last_key: Option<&str>,
    ) -> Result<Looked, Refusal> {
        let seen = self.wal;
        let look = self.files.look().map_err(Refusal::Change)?;
        if look.links != self.links {
            self.links = look.links;
            if look.links > 1 {
                tracing::warn!(
                    "{} has {} hard links: a server that opens another of its names loses events",
                    self.files.database.display(),
                    look.links
                );
            }
        }
        if look.wal_bytes < self.wal.frames.bytes(self.page_bytes)
            || self.files.wal_round() != self.wal.round
            || !self.has_page(self.wal.frames.written)
        {
            self.look_at_wal(last_key)?;
        }
        if look.database == self.stamp {
            self.stamped = seen;
            self.is_changing = false;
            return Ok(Looked::Unchanged);
        }
        let changed = |event| Err(Refusal::Change(self.files.change(Role::Database, event)));
        // SQLite would delete the WAL of a database that has no page.
        if look.database.bytes < self.page_bytes {
            return changed(Event::CutOff);
        }
        let is_shorter = look.database.bytes < self.stamp.bytes;
        match self.cause().map_err(Refusal::Sqlite)? {
            Cause::Checkpoint => {
                self.remember();
                Ok(Looked::Unchanged)
            }
            Cause::CheckpointUnderWay => {
                self.is_changing = true;
                Ok(Looked::Unchanged)
            }
            // Only read before that is known: what is there may be another's.
            Cause::Unknown
                if is_whole(&self.files.database, self.witness(witness))
                    .map_err(Refusal::Sqlite)? =>
            {
                self.remember();
                Ok(Looked::Touched)
            }
            Cause::Unknown if is_shorter => changed(Event::CutOff),
            Cause::Unknown => changed(Event::Overwritten),
        }
    }

    /// That with which the database is known again.
    fn witness<'a>(&self, key: Option<&'a str>) -> Option<Witness<'a>> {
        let moved = self.stamped.frames;
        Some(Witness {
            key: key?,
            // Where a part of the WAL has been moved, the database is nothing by itself.
            is_in_database: moved.moved == 0 || moved.is_all_moved(),
        })
    }

    /// What changed the database.
    fn cause(&self) -> rusqlite::Result<Cause> {
        let is_held = match self.has_moved_pages()? {
            Some(true) => return Ok(Cause::Checkpoint),
            Some(false) => self.files.has_checkpoint(),
            None => true,
        };
        // One that ended meanwhile shows now.
        match self.has_moved_pages()? {
            Some(true) => Ok(Cause::Checkpoint),
            Some(false) if !is_held => Ok(Cause::Unknown),
            Some(false) | None => Ok(Cause::CheckpointUnderWay),
        }
    }

    /// Whether the WAL shows a checkpoint; `None` where SQLite can't tell at the moment.
    fn has_moved_pages(&self) -> rusqlite::Result<Option<bool>> {
        let now = self.wal_mark()?;
        Ok(now.map(|now| self.stamped.has_moved_until(now) || self.has_grown_before(now)))
    }

    /// Whether a WAL all of which had been moved was written to again before it was begun anew: then
    /// that was moved too. The page that was next tells, unless the new round has come as far or the file
    /// was cut off before it.
    fn has_grown_before(&self, now: WalMark) -> bool {
        let (from, frames) = (self.stamped.round, self.stamped.frames);
        let has_next = |round| (self.files).has_page(frames.written + 1, self.page_bytes, round);
        rounds_between(from, now.round) == Some(1)
            && (self.files.wal_bytes() < frames.bytes(self.page_bytes)
                || [from, now.round].into_iter().flatten().any(has_next))
    }

    /// Holds that what SQLite has in the WAL is in the file that the WAL's name leads to.
    ///
    /// Where it seems not to be, another process may have begun the WAL anew in between: so it is
    /// looked at again.
    pub(super) fn look_at_wal(&mut self, last_key: Option<&str>) -> Result<(), Refusal> {
        let was = self.wal;
        let before = was.frames;
        let mut is_known = false;
        let last = last_key.map(|key| Witness {
            key,
            is_in_database: false,
        });
        for _ in 0..LOOKS_AT_WAL {
            let Some(now) = self.wal_mark().map_err(Refusal::Sqlite)? else {
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
            let may_be_new =
                before.written == 0 || before.is_all_moved() || after.written < before.written;
            if after.written == 0
                || self.wal.round == was.round
                || rounds_between(was.round, self.wal.round).is_some()
                || may_be_new && after != before
                || is_whole(&self.files.database, last).map_err(Refusal::Sqlite)?
            {
                return Ok(());
            }
            break;
        }
        if !is_known {
            let busy = ffi::Error::new(ffi::SQLITE_BUSY);
            return Err(Refusal::Sqlite(rusqlite::Error::SqliteFailure(busy, None)));
        }
        let event = match self.files.wal_bytes() < self.wal.frames.bytes(self.page_bytes) {
            true => Event::CutOff,
            false => Event::Overwritten,
        };
        // So that the next look sees it too.
        self.wal = was;
        Err(Refusal::Change(self.files.change(Role::Wal, event)))
    }

    fn has_page(&self, page: u64) -> bool {
        let has_page = |round| self.files.has_page(page, self.page_bytes, round);
        page == 0 || self.wal.round.is_some_and(has_page)
    }
}
