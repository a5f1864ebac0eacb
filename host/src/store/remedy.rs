//! What is done about a change of a store's files, so that what was acknowledged survives it.
//!
//! All that is in the WAL goes to the database by what is still open of them, or into a copy.
//! Never writes to a file that the writer has not opened.

use std::time::{Duration, Instant};

use super::connected::Connected;
use super::connection::{Connector, WriteError};
use super::identity::{Change, Event, Role};
use super::opening::remove_alone;
use super::overwritten;
use super::renewal::Renewal;
use super::rescue::{self, Purpose, Wanted};
use super::wal_size::{Mode, at_once};
use super::wholeness::is_damage;
use crate::error::Error;

/// How long a copy that could not be made is not tried again: it reads all that there is.
const RESCUE_PAUSE: Duration = Duration::from_secs(10);

/// What is done about a change.
pub(super) enum Remedy {
    /// Nothing can be done.
    Wait,
    /// All is moved to the database, which may come back.
    Complete,
    /// All is moved to the database, and it is opened anew.
    Renew,
    /// All that can be read is copied.
    Rescue(Then),
}

/// What is done once a copy is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The WAL is emptied, since what is at the database's path may be another's: then no put is
    /// taken any more.
    EmptyAndStop,
    /// What is on the disk is left as it is, and no put is taken any more.
    Stop,
    /// The store is opened anew, and what is copied put into it.
    Merge,
}

pub(super) fn remedy(change: &Change) -> Remedy {
    match (change.role, &change.event) {
        (_, Event::Hidden(_)) => Remedy::Wait,
        (Role::Database, Event::Moved | Event::Replaced { is_removed: false }) => Remedy::Complete,
        (Role::Database, Event::CutOff | Event::Overwritten) => Remedy::Rescue(Then::Stop),
        (Role::Database, _) => Remedy::Rescue(Then::EmptyAndStop),
        (Role::Wal, Event::CutOff | Event::Overwritten) => Remedy::Rescue(Then::Merge),
        (Role::Wal | Role::Shm, _) => Remedy::Renew,
    }
}

impl Connector {
    pub(super) fn secure(&mut self, role: Role, remedy: Remedy) {
        match remedy {
            Remedy::Wait => {}
            Remedy::Complete => {
                if self.complete() {
                    self.abandon();
                }
            }
            Remedy::Renew => {
                if self.has_room(role) && self.complete() {
                    self.discard_standby();
                    self.must_be_renewed(role);
                    self.close_alone();
                } else if role == Role::Wal {
                    // It has no name any more by which it could be found after the end.
                    self.copy_for_the_end();
                }
            }
            Remedy::Rescue(then) => self.rescue(then),
        }
    }

    /// Whether the database has room for what is in a WAL without a name. Half of that would ruin the
    /// database, since nobody could move the rest.
    fn has_room(&self, role: Role) -> bool {
        let Some(connected) = self.connected.as_ref().filter(|_| role == Role::Wal) else {
            return true;
        };
        // What can't be asked is tried.
        let missing = connected.missing_bytes().unwrap_or(0);
        if missing > 0
            && let Some(suppressed) = self.trouble.said.check("room")
        {
            tracing::error!(
                suppressed,
                missing,
                "the database of the store {} has no room for what is in its WAL, which has no name any more: make room",
                self.path.display()
            );
        }
        missing == 0
    }

    /// Moves all that is in the WAL to the database, by what is open of them.
    fn complete(&self) -> bool {
        let Some(connected) = &self.connected else {
            return false;
        };
        let path = self.path.display();
        match at_once(&connected.connection, Mode::Truncate) {
            Ok(checkpoint) if !checkpoint.is_busy => {
                tracing::warn!(
                    "what was acknowledged is complete in the database of the store {path}, wherever that is now"
                );
                true
            }
            Ok(_) => {
                if let Some(suppressed) = self.trouble.said.check("busy") {
                    tracing::warn!(
                        suppressed,
                        "what was acknowledged is not all in the database of the store {path} yet: a reader holds it back"
                    );
                }
                false
            }
            Err(error) => {
                if let Some(suppressed) = self.trouble.said.check(&error.to_string()) {
                    tracing::error!(
                        suppressed,
                        "cannot move the WAL of the store {path} to its database: {error}"
                    );
                }
                false
            }
        }
    }

    /// Has the store opened again only where its files show that somebody had it alone.
    fn must_be_renewed(&mut self, role: Role) {
        if let Some(connected) = &self.connected {
            self.trouble.to_be_renewed = Some(Renewal::after(role, &connected.files));
        }
    }

    /// Makes sure of that.
    pub(super) fn renew(&mut self) -> Result<(), WriteError> {
        let Some(renewal) = &self.trouble.to_be_renewed else {
            return Ok(());
        };
        if !renewal.is_done() {
            remove_alone(&self.path, &renewal.removed).map_err(WriteError::Store)?;
        }
        self.trouble.to_be_renewed = None;
        Ok(())
    }

    /// Closes the store so that its WAL goes, if nobody else has it open.
    fn close_alone(&mut self) {
        let has_other_wal = |connected: &Connected| connected.files.has_other_wal();
        if self.connected.as_ref().is_some_and(has_other_wal) {
            // SQLite would remove it by its name.
            return self.abandon();
        }
        if let Some(connected) = self.connected.take()
            && let Err(error) = connected.close_with_checkpoint()
        {
            tracing::warn!("a connection to the store is closed without a checkpoint: {error}");
        }
    }

    fn rescue(&mut self, then: Then) {
        let is_early =
            (self.trouble.rescue_failed_at).is_some_and(|failed| failed.elapsed() < RESCUE_PAUSE);
        let Some(connected) = self.connected.as_ref().filter(|_| !is_early) else {
            return;
        };
        let (database, modes) = (&connected.files.database, &connected.modes);
        let purpose = match then {
            Then::Merge => Purpose::Wal,
            Then::EmptyAndStop | Then::Stop => Purpose::Database,
        };
        let wanted = Wanted {
            purpose,
            // Of a file that is gone, the rest of a damaged store is all that there is.
            takes_damaged: then == Then::EmptyAndStop,
            last_key: self.last_key.as_deref(),
        };
        let copied = rescue::rescue(&connected.connection, database, modes, wanted);
        let copy = match copied {
            Ok(copy) => copy,
            Err(error) => return self.rescue_failed(then, &error),
        };
        self.trouble.no_copy_is_needed(database);
        if then == Then::EmptyAndStop {
            self.trouble.is_final = true;
            self.empty_and_close();
            // A reader holds it back, and what is at the database's path by now is another's.
            if let Some(connected) = &self.connected {
                connected.set_own_wal_aside();
            }
        }
        tracing::error!(
            "what was acknowledged in the store {} is rescued in {}",
            self.path.display(),
            copy.display()
        );
        match then {
            Then::EmptyAndStop => return,
            Then::Stop => self.trouble.is_final = true,
            Then::Merge => {
                self.to_merge.push(copy);
                self.must_be_renewed(Role::Wal);
            }
        }
        self.abandon();
    }

    fn rescue_failed(&mut self, then: Then, error: &Error) {
        let Some(connected) = &self.connected else {
            return;
        };
        self.trouble.rescue_failed_at = Some(Instant::now());
        self.trouble.uncopied = Some(then);
        let is_over = then != Then::EmptyAndStop && is_unreadable(error);
        let next = match is_over {
            true => "it stays as it is on the disk",
            false => "that is tried again while the server runs, so mend the cause before its end",
        };
        tracing::error!(
            "cannot rescue what was acknowledged in the store {}: {}; {next}",
            self.path.display(),
            sentence(error)
        );
        // Before the end, which may come at any time.
        if then != Then::EmptyAndStop
            && let Some(what) = &self.trouble.current
        {
            overwritten::mark(&connected.files.database, what);
        }
        if is_over {
            // Another server may have read more of it, and needs it alone.
            self.trouble.is_final = true;
            self.abandon();
        }
    }

    /// Copies all, for a next start: nothing is put meanwhile, and what is open can still be completed.
    fn copy_for_the_end(&mut self) {
        let is_early =
            (self.trouble.rescue_failed_at).is_some_and(|failed| failed.elapsed() < RESCUE_PAUSE);
        let Some(connected) = self.connected.as_ref() else {
            return;
        };
        if is_early || self.trouble.standby.is_some() {
            return;
        }
        let (database, modes) = (&connected.files.database, &connected.modes);
        let path = self.path.display();
        let wanted = Wanted {
            purpose: Purpose::Wal,
            takes_damaged: false,
            last_key: self.last_key.as_deref(),
        };
        match rescue::rescue(&connected.connection, database, modes, wanted) {
            Ok(copy) => {
                tracing::error!(
                    "what was acknowledged in the store {path} is rescued in {}, until all of it is in the database",
                    copy.display()
                );
                self.trouble.no_copy_is_needed(database);
                self.trouble.standby = Some(copy);
            }
            Err(error) => {
                tracing::error!(
                    "cannot rescue what was acknowledged in the store {path}: {}; that is tried again while the server runs, so mend the cause before its end",
                    sentence(&error)
                );
                self.trouble.rescue_failed_at = Some(Instant::now());
                self.trouble.uncopied = Some(Then::Merge);
                if let Some(what) = &self.trouble.current {
                    overwritten::mark(database, what);
                }
            }
        }
    }

    /// All is where a next start looks for it after all.
    pub(super) fn discard_standby(&mut self) {
        self.trouble.no_copy_is_needed(&self.path);
        if let Some(copy) = self.trouble.standby.take()
            && let Err(error) = std::fs::remove_file(&copy)
        {
            // Then the next start finds that the store has all of it.
            tracing::warn!("cannot remove {}: {error}", copy.display());
        }
    }

    /// Empties the WAL of a database that is gone, as soon as no reader needs it.
    pub(super) fn empty_and_close(&mut self) {
        if self.connected.is_some() && self.complete() {
            self.abandon();
        }
    }

    /// A last look before the end. Returns whether acknowledged events may be lost, of which there is no copy.
    pub(super) fn finish(&mut self) -> bool {
        if self.trouble.is_finished {
            return self.trouble.uncopied.is_some();
        }
        self.trouble.is_finished = true;
        self.trouble.rescue_failed_at = None;
        let is_wrong = self.connected.is_some() && self.inspect().is_err();
        if is_wrong || self.connected.is_none() {
            self.tell_what_is_lost();
        }
        self.end_connection(is_wrong);
        self.trouble.uncopied.is_some()
    }

    /// Leaves the WAL as it has to be left.
    fn end_connection(&mut self, is_wrong: bool) {
        if self
            .connected
            .as_ref()
            .is_some_and(|connected| connected.is_changing)
        {
            // Who is at it moves the rest too.
            return self.abandon();
        }
        let Some(connected) = self.connected.as_ref().filter(|_| is_wrong) else {
            return;
        };
        let has_copy = self.trouble.is_final && self.trouble.uncopied.is_none();
        if has_copy
            || self.trouble.is_left
            || self.trouble.uncopied.is_some()
            || self.trouble.standby.is_some()
        {
            return self.abandon();
        }
        // What a reader holds back may be in the database all the same.
        let moved = at_once(&connected.connection, Mode::Passive);
        if !moved.is_ok_and(|moved| moved.is_known && moved.frames.is_all_moved()) {
            tracing::error!(
                "the store {} is closed while its WAL has what its database lacks: keep the two together",
                self.path.display()
            );
            self.abandon();
        }
    }

    /// Says at the end which copy there is not, and what is left.
    fn tell_what_is_lost(&self) {
        let path = self.path.display();
        match self.trouble.uncopied {
            None => {}
            Some(Then::EmptyAndStop) => tracing::error!(
                "what was acknowledged in the store {path} is lost: its database was removed, and could not be copied. Only {path}-wal may have the latest of it. Take a backup, export it from other peers, or have the file system searched for removed files before it is written to"
            ),
            Some(Then::Stop | Then::Merge) => tracing::error!(
                "the store {path} is closed damaged, without a copy of what was acknowledged: what is left of it is in {path} and {path}-wal. Copy both before the next start, and see what `sqlite3 {path} .recover` finds in the copies"
            ),
        }
    }
}

/// Whether what was to be copied can't be read any more, and never will be.
fn is_unreadable(error: &Error) -> bool {
    match error {
        Error::StoreFormat { .. } => true,
        Error::Store { source, .. } => is_damage(&source.0),
        _ => false,
    }
}

fn sentence(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
