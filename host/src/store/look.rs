//! Looks at the files of a store before and after each write.
//!
//! Never mends what it finds.

use super::connected::Connected;
use super::identity::{Change, Event, Role};
use super::rescue::is_whole;
use super::wal_size::{Frames, Mode, at_once};

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
    pub(super) fn look(&mut self, witness: Option<&str>) -> Result<Looked, Change> {
        let look = self.files.look()?;
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
        if look.wal_bytes < self.frames.bytes(self.page_bytes) && self.is_wal_cut_off() {
            return Err(self.files.change(Role::Wal, Event::CutOff));
        }
        if look.database == self.stamp {
            return Ok(Looked::Unchanged);
        }
        // SQLite would delete the WAL of a database that has no page.
        if look.database.bytes < self.page_bytes {
            return Err(self.files.change(Role::Database, Event::CutOff));
        }
        let is_shorter = look.database.bytes < self.stamp.bytes;
        match self.is_by_sqlite(is_shorter) {
            Some(true) => {
                self.remember();
                Ok(Looked::Unchanged)
            }
            // Somebody is at it.
            None => Ok(Looked::Unchanged),
            Some(false) if is_whole(&self.files.database, witness).unwrap_or(false) => {
                self.remember();
                Ok(Looked::Touched)
            }
            Some(false) if is_shorter => Err(self.files.change(Role::Database, Event::CutOff)),
            Some(false) => Err(self.files.change(Role::Database, Event::Overwritten)),
        }
    }

    /// Whether what changed the database was another checkpoint; `None` while there is one.
    fn is_by_sqlite(&self, is_shorter: bool) -> Option<bool> {
        let Ok(now) = Frames::after(&self.connection, Mode::Noop) else {
            return Some(false);
        };
        if now.frames.moved != self.frames.moved || now.frames.written < self.frames.written {
            return Some(true);
        }
        if is_shorter || !self.may_checkpoint() {
            return Some(false);
        }
        match at_once(&self.connection, Mode::Passive) {
            Ok(checkpoint) if checkpoint.is_busy => None,
            _ => Some(false),
        }
    }

    /// Whether the WAL is shorter than what SQLite has in it, also if it is looked at twice.
    fn is_wal_cut_off(&mut self) -> bool {
        for _ in 0..3 {
            let ask = || Frames::after(&self.connection, Mode::Noop).map(|asked| asked.frames);
            let (before, bytes, after) = (ask(), self.files.wal_bytes(), ask());
            match (before, after) {
                (Ok(before), Ok(after)) if before == after => {
                    return bytes < after.bytes(self.page_bytes);
                }
                _ => {}
            }
        }
        false
    }

    /// Holds that what was committed is in the file that the WAL's name leads to, and all before it.
    pub(super) fn look_at_commit(&mut self) -> Result<(), Refusal> {
        let before = self.frames.written;
        for _ in 0..3 {
            let asked = Frames::after(&self.connection, Mode::Noop).map_err(Refusal::Sqlite)?;
            self.frames = asked.frames;
            let after = self.frames.written;
            let pages = [before.min(after), after];
            if pages
                .iter()
                .all(|page| self.files.has_page(*page, self.page_bytes))
            {
                return Ok(());
            }
        }
        Err(Refusal::Change(self.files.change(Role::Wal, Event::CutOff)))
    }
}
