//! Refuses puts while the files of a store are moved, removed, truncated or replaced.
//!
//! A change that SQLite did not make is logged, and nothing is acknowledged until the files are in order again.

use std::time::{Duration, Instant};

use super::fault_state::{AfterCopy, Recovery, recovery_for};
use super::file_check::{CheckError, FileCheck};
use super::store_files::{FileChange, FileRole, check_path};
use super::wal_size::{KEPT_WAL_BYTES, Mode, try_checkpoint};
use super::write_error::{WriteError, needs_reconnect};
use super::writer_connection::WriterConnection;
use crate::util::log_limiter::LogLimiter;

/// How long a check after one write counts as the check before the next, so that continuous puts are
/// checked once each.
const CHECK_PAUSE: Duration = Duration::from_millis(10);

impl WriterConnection {
    /// Checks that the files at the store's path are those that were opened.
    pub(super) fn inspect(&mut self) -> Result<(), WriteError> {
        if self.fault.is_final {
            return Err(self.refuse());
        }
        let (expected_key, last_key) = (self.expected_key.as_deref(), self.last_key.as_deref());
        let checked = match &mut self.open_store {
            Some(open_store) => open_store.check_files(expected_key, last_key),
            None => match check_path(&self.path, self.id) {
                Ok(()) => Ok(FileCheck::Unchanged),
                Err(change) => Err(CheckError::Change(change)),
            },
        };
        match checked {
            Ok(FileCheck::Unchanged) => Ok(()),
            Ok(FileCheck::Touched) => {
                let path = self.path.display();
                tracing::warn!(
                    "the store {path} was written to by another program than SQLite: it is intact, and is opened again"
                );
                self.discard();
                Ok(())
            }
            Err(refusal) => Err(self.handle_check_error(refusal)),
        }
    }

    fn handle_check_error(&mut self, refusal: CheckError) -> WriteError {
        match refusal {
            CheckError::Change(change) => self.handle_change(&change),
            CheckError::Sqlite(error) => {
                if needs_reconnect(&error) {
                    self.discard();
                }
                WriteError::Sqlite(error)
            }
        }
    }

    /// The same before a write, unless the check after the last one was just made.
    pub(super) fn inspect_before_write(&mut self) -> Result<(), WriteError> {
        let inspected_at = self
            .inspected_at
            .take()
            .filter(|_| self.open_store.is_some());
        match inspected_at.is_some_and(|inspected_at| inspected_at.elapsed() < CHECK_PAUSE) {
            true => Ok(()),
            false => self.inspect(),
        }
    }

    /// The same after a commit, with the frames that it wrote.
    pub(super) fn inspect_commit(&mut self) -> Result<(), WriteError> {
        let Some(open_store) = &mut self.open_store else {
            return Ok(());
        };
        match open_store.check_wal_file(self.last_key.as_deref()) {
            Ok(()) => {
                self.inspect()?;
                self.inspected_at = Some(Instant::now());
                Ok(())
            }
            Err(refusal) => Err(self.handle_check_error(refusal)),
        }
    }

    /// Takes puts again.
    pub(super) fn resume(&mut self) {
        if self.fault.current.take().is_some() {
            // The copy lacks what is put from now on.
            self.discard_standby_copy();
            // The next change is logged at once.
            self.fault.said = LogLimiter::default();
            let path = self.path.display();
            tracing::info!("the files of the store {path} are in order: puts are taken again");
        }
    }

    /// Checks the files while no put comes in, and truncates a WAL that is larger than needed.
    pub(super) fn inspect_idle(&mut self) {
        if self.fault.is_final {
            return self.truncate_and_close();
        }
        if self.inspect().is_err() {
            return;
        }
        if self.fault.is_active()
            && let Err(error) = self.connect()
        {
            tracing::debug!("the store is not opened again yet: {error}");
            return;
        }
        self.resume();
        let Some(open_store) = &mut self.open_store else {
            return;
        };
        if open_store.files.wal_bytes() > KEPT_WAL_BYTES && open_store.can_checkpoint() {
            let shrunk = try_checkpoint(&open_store.connection, Mode::Truncate);
            open_store.remember();
            if let Err(error) = shrunk {
                self.checkpoint_failed(&error);
            }
        }
    }

    /// Logs a change, and starts the recovery from it.
    fn handle_change(&mut self, change: &FileChange) -> WriteError {
        let what = change.to_string();
        if self.fault.current.as_ref() != Some(&what) {
            self.fault.rescue_failed_at = None;
        }
        self.fault.current = Some(what);
        let refusal = self.refuse();
        if let Some(open_store) = &self.open_store {
            if change.role == FileRole::Wal {
                open_store.set_foreign_wal_aside();
            }
            let recovery = recovery_for(change);
            self.fault.keeps_wal =
                matches!(recovery, Recovery::Copy(AfterCopy::Stop | AfterCopy::Merge));
            self.recover(change.role, recovery);
        }
        refusal
    }

    fn refuse(&self) -> WriteError {
        let what = self.fault.current.clone().unwrap_or_default();
        let path = self.path.display();
        if let Some(suppressed) = self.fault.said.check(&what) {
            let until = match self.fault.is_final {
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
