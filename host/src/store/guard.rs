//! Keeps what was acknowledged when the files of a store are moved, removed, cut off or replaced
//! under its writer.
//!
//! A change that SQLite did not make is told, and nothing is acknowledged until the files are right
//! again. Until then all that is in the WAL goes to the database by what is still open of them.
//! Never writes to a file that the writer has not opened.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::connection::{Connector, WriteError, hold_alone, spoils_connection};
use super::identity::{Change, Event, FileId, Role, is_another, look_for};
use super::look::{Looked, Refusal};
use super::rescue::{self, Purpose, is_damage};
use super::wal_size::{KEPT_WAL_BYTES, Mode, at_once};
use crate::error::Error;
use crate::seldom::Seldom;

/// How long a copy that could not be made is not tried again: it reads all that there is.
const RESCUE_PAUSE: Duration = Duration::from_secs(10);

/// How long a look after one write is also that before the next, so that puts without a pause are
/// looked at once.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// What is wrong with the files of a store, and how far it is mended.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// What is told of it, until puts are taken again.
    current: Option<String>,
    said: Seldom,
    /// Why this process takes no further put, whatever becomes of the files.
    is_final: bool,
    rescue_failed_at: Option<Instant>,
    /// Whether what is on the disk is better left as it is.
    is_left: bool,
    /// A file that has to be another one when the store is opened again, so that all who have it open
    /// then have the same WAL and the same shared memory: the one that was there is removed when
    /// somebody has the store alone.
    to_be_renewed: Option<(PathBuf, FileId)>,
}

impl Trouble {
    pub(super) fn is_there(&self) -> bool {
        self.current.is_some()
    }
}

/// What is done about a change.
enum Remedy {
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
enum Then {
    /// The WAL is emptied, since what is at the database's path may be another's: then no put is
    /// taken any more.
    EmptyAndStop,
    /// What is on the disk is left as it is, and no put is taken any more.
    Stop,
    /// The store is opened anew, and what is copied put into it.
    Merge,
}

fn remedy(change: &Change) -> Remedy {
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
    /// Holds that the files at the store's path are those that were opened.
    pub(super) fn inspect(&mut self) -> Result<(), WriteError> {
        if self.trouble.is_final {
            return Err(self.refuse());
        }
        let (witness, last_key) = (self.witness.as_deref(), self.last_key.as_deref());
        let looked = match &mut self.connected {
            Some(connected) => connected.look(witness, last_key),
            None => match look_for(&self.path, self.id) {
                Ok(()) => Ok(Looked::Unchanged),
                Err(change) => Err(Refusal::Change(change)),
            },
        };
        match looked {
            Ok(Looked::Unchanged) => Ok(()),
            Ok(Looked::Touched) => {
                let path = self.path.display();
                tracing::warn!(
                    "the store {path} was written to by another program than SQLite: it is whole, and is read anew"
                );
                self.abandon();
                Ok(())
            }
            Err(refusal) => Err(self.refuse_for(refusal)),
        }
    }

    fn refuse_for(&mut self, refusal: Refusal) -> WriteError {
        match refusal {
            Refusal::Change(change) => self.meet(&change),
            Refusal::Sqlite(error) => {
                if spoils_connection(&error) {
                    self.abandon();
                }
                WriteError::Sqlite(error)
            }
        }
    }

    /// The same before a write, unless the last one was just looked at: the look after it sees all
    /// that this one would.
    pub(super) fn inspect_before_write(&mut self) -> Result<(), WriteError> {
        let looked_at = self.looked_at.take().filter(|_| self.connected.is_some());
        match looked_at.is_some_and(|looked_at| looked_at.elapsed() < LOOK_PAUSE) {
            true => Ok(()),
            false => self.inspect(),
        }
    }

    /// The same after a commit, with what that has written.
    pub(super) fn inspect_commit(&mut self) -> Result<(), WriteError> {
        let Some(connected) = &mut self.connected else {
            return Ok(());
        };
        match connected.look_at_wal(self.last_key.as_deref()) {
            Ok(()) => {
                self.inspect()?;
                self.looked_at = Some(Instant::now());
                Ok(())
            }
            Err(refusal) => Err(self.refuse_for(refusal)),
        }
    }

    /// Puts are taken again.
    pub(super) fn settle(&mut self) {
        if self.trouble.current.take().is_some() {
            // The next change is told at once.
            self.trouble.said = Seldom::default();
            let path = self.path.display();
            tracing::info!("the files of the store {path} are in order: puts are taken again");
        }
    }

    /// What nobody waits for: a look at the files, and at a WAL that is larger than it needs to be.
    pub(super) fn tick(&mut self) {
        if self.trouble.is_final {
            return self.empty_and_close();
        }
        if self.inspect().is_err() {
            return;
        }
        if self.trouble.is_there()
            && let Err(error) = self.connect()
        {
            tracing::debug!("the store is not opened again yet: {error}");
            return;
        }
        self.settle();
        let Some(connected) = &mut self.connected else {
            return;
        };
        if connected.files.wal_bytes() > KEPT_WAL_BYTES && connected.may_checkpoint() {
            let shrunk = at_once(&connected.connection, Mode::Truncate);
            connected.remember();
            if let Err(error) = shrunk {
                self.checkpoint_failed(&error);
            }
        }
    }

    /// Tells a change, and has what was acknowledged survive it.
    fn meet(&mut self, change: &Change) -> WriteError {
        let what = change.to_string();
        if self.trouble.current.as_ref() != Some(&what) {
            self.trouble.rescue_failed_at = None;
        }
        self.trouble.current = Some(what);
        let refusal = self.refuse();
        if self.connected.is_some() {
            let remedy = remedy(change);
            self.trouble.is_left = matches!(remedy, Remedy::Rescue(Then::Stop | Then::Merge));
            self.secure(change.role, remedy);
        }
        refusal
    }

    fn refuse(&self) -> WriteError {
        let what = self.trouble.current.clone().unwrap_or_default();
        let path = self.path.display();
        if let Some(left_out) = self.trouble.said.say(&what) {
            let until = match self.trouble.is_final {
                true => "the server is started again",
                false => "it is as it was",
            };
            tracing::error!(
                left_out,
                "the store {path} takes no puts until {until}: {what} while the server has it open"
            );
        }
        WriteError::Changed(what)
    }

    fn secure(&mut self, role: Role, remedy: Remedy) {
        match remedy {
            Remedy::Wait => {}
            Remedy::Complete => {
                if self.complete() {
                    self.abandon();
                }
            }
            Remedy::Renew => {
                if self.complete() {
                    self.must_be_renewed(role);
                    self.close_alone();
                }
            }
            Remedy::Rescue(then) => self.rescue(then),
        }
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
                if let Some(left_out) = self.trouble.said.say("busy") {
                    tracing::warn!(
                        left_out,
                        "what was acknowledged is not all in the database of the store {path} yet: a reader holds it back"
                    );
                }
                false
            }
            Err(error) => {
                if let Some(left_out) = self.trouble.said.say(&error.to_string()) {
                    tracing::error!(
                        left_out,
                        "cannot move the WAL of the store {path} to its database: {error}"
                    );
                }
                false
            }
        }
    }

    /// Has the store opened again only where its other file shows that somebody had it alone.
    fn must_be_renewed(&mut self, role: Role) {
        let other = match role {
            Role::Shm => Role::Wal,
            Role::Database | Role::Wal => Role::Shm,
        };
        if let Some(connected) = &self.connected {
            let (path, id) = connected.files.id_of(other);
            self.trouble.to_be_renewed = Some((path.to_owned(), id));
        }
    }

    /// Makes sure of that.
    pub(super) fn renew(&mut self) -> Result<(), WriteError> {
        let Some((path, id)) = &self.trouble.to_be_renewed else {
            return Ok(());
        };
        if !is_another(path, *id) {
            hold_alone(&self.path, Some(path)).map_err(WriteError::Store)?;
        }
        self.trouble.to_be_renewed = None;
        Ok(())
    }

    /// Closes the store so that its WAL goes, if nobody else has it open.
    fn close_alone(&mut self) {
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
        // Of a file that is gone, the rest of a damaged store is all that there is.
        let takes_damaged = then == Then::EmptyAndStop;
        let copied = rescue::rescue(
            &connected.connection,
            database,
            modes,
            purpose,
            takes_damaged,
        );
        let copy = match copied {
            Ok(copy) => copy,
            Err(error) => {
                tracing::error!(
                    "cannot rescue what was acknowledged in the store {}: {}",
                    self.path.display(),
                    sentence(&error)
                );
                self.trouble.rescue_failed_at = Some(Instant::now());
                if then != Then::EmptyAndStop && is_unreadable(&error) {
                    // Another server may have read more of it, and needs it alone.
                    self.trouble.is_final = true;
                    self.abandon();
                }
                return;
            }
        };
        tracing::error!(
            "what was acknowledged in the store {} is rescued in {}",
            self.path.display(),
            copy.display()
        );
        match then {
            Then::EmptyAndStop => {
                self.trouble.is_final = true;
                self.empty_and_close();
                return;
            }
            Then::Stop => self.trouble.is_final = true,
            Then::Merge => {
                self.to_merge.push(copy);
                self.must_be_renewed(Role::Wal);
            }
        }
        self.abandon();
    }

    /// Empties the WAL of a database that is gone, as soon as no reader needs it.
    fn empty_and_close(&mut self) {
        if self.connected.is_some() && self.complete() {
            self.abandon();
        }
    }

    /// Puts back what a WAL that was cut off had.
    pub(super) fn merge_rescued(&mut self) -> Result<(), WriteError> {
        let Some(connected) = &self.connected else {
            return Ok(());
        };
        while let Some(copy) = self.to_merge.last() {
            let database = &connected.files.database;
            rescue::merge(&connected.connection, database, copy).map_err(WriteError::Store)?;
            self.to_merge.pop();
        }
        Ok(())
    }

    /// A last look before the end.
    pub(super) fn finish(&mut self) {
        self.trouble.rescue_failed_at = None;
        let is_wrong = self.connected.is_some() && self.inspect().is_err();
        let Some(connected) = self.connected.as_ref().filter(|_| is_wrong) else {
            return;
        };
        if self.trouble.is_left {
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
