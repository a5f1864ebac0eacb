//! Keeps acknowledged events when the files of a store change: checkpoints the WAL through the open files,
//! and opens the store again.
//!
//! Never writes to a file that the writer has not opened.

use super::fault_state::Recovery;
use super::open_for_write::remove_alone;
use super::open_store::OpenStore;
use super::reopen::ReopenCondition;
use super::store_files::FileRole;
use super::wal_size::{Mode, try_checkpoint};
use super::write_error::WriteError;
use super::writer_connection::WriterConnection;

impl WriterConnection {
    pub(super) fn recover(&mut self, role: FileRole, recovery: Recovery) {
        match recovery {
            Recovery::Wait => {}
            Recovery::Checkpoint => {
                if self.checkpoint_all() {
                    self.discard();
                }
            }
            Recovery::Reopen => {
                if self.has_room(role) && self.checkpoint_all() {
                    self.discard_standby_copy();
                    self.require_reopen(role);
                    self.close_if_alone();
                } else if role == FileRole::Wal {
                    // It has no name any more by which it could be found after the end.
                    self.copy_for_the_end();
                }
            }
            Recovery::Copy(after_copy) => self.rescue(after_copy),
        }
    }

    /// Whether the disk has room for a checkpoint of a removed WAL. Half of a checkpoint would corrupt the
    /// database, since nobody could finish it.
    fn has_room(&self, role: FileRole) -> bool {
        let Some(open_store) = self.open_store.as_ref().filter(|_| role == FileRole::Wal) else {
            return true;
        };
        // Where the size is not known, it is tried.
        let missing = open_store.missing_bytes().unwrap_or(0);
        if missing > 0
            && let Some(suppressed) = self.fault.said.check("room")
        {
            tracing::error!(
                suppressed,
                missing,
                "there is no room to checkpoint the WAL of the store {}, which was removed: free some space",
                self.path.display()
            );
        }
        missing == 0
    }

    /// Checkpoints the whole WAL through the open files.
    fn checkpoint_all(&self) -> bool {
        let Some(open_store) = &self.open_store else {
            return false;
        };
        let path = self.path.display();
        match try_checkpoint(&open_store.connection, Mode::Truncate) {
            Ok(checkpoint) if !checkpoint.is_busy => {
                tracing::warn!(
                    "all acknowledged events are in the database file of the store {path}, wherever it was moved"
                );
                true
            }
            Ok(_) => {
                if let Some(suppressed) = self.fault.said.check("busy") {
                    tracing::warn!(
                        suppressed,
                        "some acknowledged events are not in the database file of the store {path} yet: a reader prevents a checkpoint"
                    );
                }
                false
            }
            Err(error) => {
                if let Some(suppressed) = self.fault.said.check(&error.to_string()) {
                    tracing::error!(
                        suppressed,
                        "cannot checkpoint the WAL of the store {path}: {error}"
                    );
                }
                false
            }
        }
    }

    /// Lets the store be opened again only after somebody had it open exclusively.
    pub(super) fn require_reopen(&mut self, role: FileRole) {
        if let Some(open_store) = &self.open_store {
            self.fault.reopen_condition = Some(ReopenCondition::after(role, &open_store.files));
        }
    }

    /// Makes sure of that condition.
    pub(super) fn prepare_reopen(&mut self) -> Result<(), WriteError> {
        let Some(condition) = &self.fault.reopen_condition else {
            return Ok(());
        };
        if !condition.is_met() {
            remove_alone(&self.path, &condition.removed).map_err(WriteError::Store)?;
        }
        self.fault.reopen_condition = None;
        Ok(())
    }

    /// Closes the store. If no other process has it open, its WAL is removed.
    fn close_if_alone(&mut self) {
        let has_other_wal = |open_store: &OpenStore| open_store.files.has_other_wal();
        if self.open_store.as_ref().is_some_and(has_other_wal) {
            // SQLite would remove it by its name.
            return self.discard();
        }
        if let Some(open_store) = self.open_store.take()
            && let Err(error) = open_store.close_with_checkpoint()
        {
            tracing::warn!("a connection to the store is closed without a checkpoint: {error}");
        }
    }

    /// Empties the WAL of a lost database, as soon as no reader needs it.
    pub(super) fn truncate_and_close(&mut self) {
        if self.open_store.is_some() && self.checkpoint_all() {
            self.discard();
        }
    }
}
