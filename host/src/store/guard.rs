//! Finds out when the files of a store are moved, removed, cut off or replaced under its writer.
//!
//! A change that SQLite did not make is told, and nothing is acknowledged until the files are right
//! again. What is done about it is decided in `remedy`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::connection::{Connector, WriteError, spoils_connection};
use super::identity::{Change, Role, look_for};
use super::look::{Looked, Refusal};
use super::overwritten;
use super::remedy::{Remedy, Then, remedy};
use super::renewal::Renewal;
use super::wal_size::{KEPT_WAL_BYTES, Mode, at_once};
use crate::util::log_limiter::LogLimiter;

/// How long a look after one write is also that before the next, so that puts without a pause are
/// looked at once.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// What is wrong with the files of a store, and how far it is mended.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// What is told of it, until puts are taken again.
    pub(super) current: Option<String>,
    pub(super) said: LogLimiter,
    /// Why this process takes no further put, whatever becomes of the files.
    pub(super) is_final: bool,
    /// A copy for the next start, unless all comes to the database before the end.
    pub(super) standby: Option<PathBuf>,
    pub(super) rescue_failed_at: Option<Instant>,
    /// What was to follow a copy that could not be made.
    pub(super) uncopied: Option<Then>,
    /// Whether what is on the disk is better left as it is.
    pub(super) is_left: bool,
    /// Whether the store was looked at for the last time.
    pub(super) is_finished: bool,
    /// What the store has to have anew when it is opened again.
    pub(super) to_be_renewed: Option<Renewal>,
}

impl Trouble {
    pub(super) fn is_there(&self) -> bool {
        self.current.is_some()
    }

    /// The files are right again, or what they had is copied.
    pub(super) fn no_copy_is_needed(&mut self, database: &Path) {
        if self.uncopied.take().is_some() {
            overwritten::unmark(database);
        }
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
            // What is put from now on is in no copy.
            self.discard_standby();
            // The next change is told at once.
            self.trouble.said = LogLimiter::default();
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
        if let Some(connected) = &self.connected {
            if change.role == Role::Wal {
                connected.set_foreign_wal_aside();
            }
            let remedy = remedy(change);
            self.trouble.is_left = matches!(remedy, Remedy::Rescue(Then::Stop | Then::Merge));
            self.secure(change.role, remedy);
        }
        refusal
    }

    fn refuse(&self) -> WriteError {
        let what = self.trouble.current.clone().unwrap_or_default();
        let path = self.path.display();
        if let Some(suppressed) = self.trouble.said.check(&what) {
            let until = match self.trouble.is_final {
                true => "the server is started again",
                false => "it is as it was",
            };
            tracing::error!(
                suppressed,
                "the store {path} takes no puts until {until}: {what} while the server has it open"
            );
        }
        WriteError::Changed(what)
    }
}
