//! Closes the writer's connection: checks the files once more, and decides whether the WAL stays.

use super::fault_state::AfterCopy;
use super::wal_size::{Mode, try_checkpoint};
use super::writer_connection::WriterConnection;

impl WriterConnection {
    /// Checks the files once more. Returns whether acknowledged events may be lost, since no copy could be made.
    pub(super) fn close(&mut self) -> bool {
        if self.fault.is_closed {
            return self.fault.failed_copy.is_some();
        }
        self.fault.is_closed = true;
        self.fault.rescue_failed_at = None;
        let is_wrong = self.open_store.is_some() && self.inspect().is_err();
        if is_wrong || self.open_store.is_none() {
            self.log_losses();
        }
        self.end_connection(is_wrong);
        self.fault.failed_copy.is_some()
    }

    /// Disconnects; the WAL stays where the next start, or another process, needs it.
    fn end_connection(&mut self, is_wrong: bool) {
        if self
            .open_store
            .as_ref()
            .is_some_and(|open_store| open_store.is_changing)
        {
            // Who is at it moves the rest too.
            return self.discard();
        }
        let Some(open_store) = self.open_store.as_ref().filter(|_| is_wrong) else {
            return;
        };
        let has_copy = self.fault.is_final && self.fault.failed_copy.is_none();
        if has_copy
            || self.fault.keeps_wal
            || self.fault.failed_copy.is_some()
            || self.fault.standby_copy.is_some()
        {
            return self.discard();
        }
        // What a reader holds back may be in the database all the same.
        let checkpointed = try_checkpoint(&open_store.connection, Mode::Passive);
        if !checkpointed.is_ok_and(|checkpointed| {
            checkpointed.is_known && checkpointed.frames.is_all_checkpointed()
        }) {
            tracing::error!(
                "the store {} is closed while its WAL has what its database lacks: keep the two together",
                self.path.display()
            );
            self.discard();
        }
    }

    /// Logs at the end which copy could not be made, and which data remains.
    fn log_losses(&self) {
        let path = self.path.display();
        match self.fault.failed_copy {
            None => {}
            Some(AfterCopy::EmptyAndStop) => tracing::error!(
                "acknowledged events of the store {path} are lost: its database was removed, and could not be copied. Only {path}-wal may have the latest of it. Take a backup, export it from other peers, or have the file system searched for removed files before it is written to"
            ),
            Some(AfterCopy::Stop | AfterCopy::Merge) => tracing::error!(
                "the store {path} is closed damaged, and no copy could be made: the remaining data is in {path} and {path}-wal. Copy both before the next start, and see what `sqlite3 {path} .recover` finds in the copies"
            ),
        }
    }
}
