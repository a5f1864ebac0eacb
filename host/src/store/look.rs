//! Looks at the files of a store before and after each write.
//!
//! Never mends what it finds.

use rusqlite::ffi;

use super::connected::Connected;
use super::identity::{Change, Event, Role};
use super::wal_size::{Frames, Mode, at_once};
use super::wholeness::is_whole;

/// How often a WAL is looked at before it is not what SQLite has in it.
const LOOKS_AT_WAL: usize = 3;

/// What came of a look.
pub(super) enum Looked {
    Unchanged,
    /// Another program wrote to the database, and it is whole.
    Touched,
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
        if look.wal_bytes < self.frames.bytes(self.page_bytes)
            || self.files.wal_round() != self.round
            || !self.has_page(self.frames.written)
        {
            self.look_at_wal(last_key)?;
        }
        if look.database == self.stamp {
            return Ok(Looked::Unchanged);
        }
        let changed = |event| Err(Refusal::Change(self.files.change(Role::Database, event)));
        // SQLite would delete the WAL of a database that has no page.
        if look.database.bytes < self.page_bytes {
            return changed(Event::CutOff);
        }
        let is_shorter = look.database.bytes < self.stamp.bytes;
        match self.is_by_sqlite(is_shorter).map_err(Refusal::Sqlite)? {
            Some(true) => {
                self.remember();
                Ok(Looked::Unchanged)
            }
            // Somebody is at it.
            None => Ok(Looked::Unchanged),
            Some(false) if is_whole(&self.files.database, witness).map_err(Refusal::Sqlite)? => {
                self.remember();
                Ok(Looked::Touched)
            }
            Some(false) if is_shorter => changed(Event::CutOff),
            Some(false) => changed(Event::Overwritten),
        }
    }

    /// Whether what changed the database was another checkpoint; `None` while there is one.
    fn is_by_sqlite(&self, is_shorter: bool) -> rusqlite::Result<Option<bool>> {
        let now = Frames::after(&self.connection, Mode::Noop)?;
        if !now.is_known {
            return Ok(None);
        }
        if now.frames.moved != self.frames.moved || now.frames.written < self.frames.written {
            return Ok(Some(true));
        }
        if is_shorter || !self.may_checkpoint() {
            return Ok(Some(false));
        }
        let is_busy = at_once(&self.connection, Mode::Passive)?.is_busy;
        Ok((!is_busy).then_some(false))
    }

    /// Holds that what SQLite has in the WAL is in the file that the WAL's name leads to.
    ///
    /// Where it seems not to be, another process may have begun the WAL anew in between: so it is
    /// looked at again.
    pub(super) fn look_at_wal(&mut self, last_key: Option<&str>) -> Result<(), Refusal> {
        let (before, round) = (self.frames, self.round);
        let mut is_known = false;
        for _ in 0..LOOKS_AT_WAL {
            let asked = Frames::after(&self.connection, Mode::Noop).map_err(Refusal::Sqlite)?;
            if !asked.is_known {
                continue;
            }
            is_known = true;
            (self.frames, self.round) = (asked.frames, self.files.wal_round());
            let after = self.frames;
            // The last page of before is gone if the WAL was cut off before the last write.
            let pages = [before.written.min(after.written), after.written];
            if !pages.into_iter().all(|page| self.has_page(page)) {
                continue;
            }
            let may_be_new =
                before.written == 0 || before.is_all_moved() || after.written < before.written;
            if after.written == 0
                || self.round == round
                || may_be_new && after != before
                || is_whole(&self.files.database, last_key).map_err(Refusal::Sqlite)?
            {
                return Ok(());
            }
            break;
        }
        if !is_known {
            let busy = ffi::Error::new(ffi::SQLITE_BUSY);
            return Err(Refusal::Sqlite(rusqlite::Error::SqliteFailure(busy, None)));
        }
        let event = match self.files.wal_bytes() < self.frames.bytes(self.page_bytes) {
            true => Event::CutOff,
            false => Event::Overwritten,
        };
        // So that the next look sees it too.
        (self.frames, self.round) = (before, round);
        Err(Refusal::Change(self.files.change(Role::Wal, event)))
    }

    fn has_page(&self, page: u64) -> bool {
        let has_page = |round| self.files.has_page(page, self.page_bytes, round);
        page == 0 || self.round.is_some_and(has_page)
    }
}
