//! Copies all acknowledged events if the files of a store can't be repaired, and tries again if that fails.

use std::time::{Duration, Instant};

use super::fault_state::AfterCopy;
use super::integrity::is_corruption;
use super::overwritten_mark;
use super::rescue::{self, Purpose, Wanted};
use super::store_files::FileRole;
use super::writer_connection::WriterConnection;
use crate::error::Error;

/// The time between two attempts to make a copy: each reads the whole store.
const RESCUE_PAUSE: Duration = Duration::from_secs(10);

impl WriterConnection {
    pub(super) fn rescue(&mut self, after_copy: AfterCopy) {
        let is_early =
            (self.fault.rescue_failed_at).is_some_and(|failed| failed.elapsed() < RESCUE_PAUSE);
        let Some(open_store) = self.open_store.as_ref().filter(|_| !is_early) else {
            return;
        };
        let (database, modes) = (&open_store.files.database, &open_store.modes);
        let purpose = match after_copy {
            AfterCopy::Merge => Purpose::Wal,
            AfterCopy::EmptyAndStop | AfterCopy::Stop => Purpose::Database,
        };
        let wanted = Wanted {
            purpose,
            // Of a file that is gone, the rest of a damaged store is all that there is.
            takes_damaged: after_copy == AfterCopy::EmptyAndStop,
            last_key: self.last_key.as_deref(),
        };
        let copied = rescue::rescue(&open_store.connection, database, modes, wanted);
        let copy = match copied {
            Ok(copy) => copy,
            Err(error) => return self.rescue_failed(after_copy, &error),
        };
        self.fault.copy_not_needed(database);
        if after_copy == AfterCopy::EmptyAndStop {
            self.fault.is_final = true;
            self.truncate_and_close();
            // A reader holds it back, and what is at the database's path by now is another's.
            if let Some(open_store) = &self.open_store {
                open_store.set_own_wal_aside();
            }
        }
        tracing::error!(
            "all acknowledged events of the store {} were copied to {}",
            self.path.display(),
            copy.display()
        );
        match after_copy {
            AfterCopy::EmptyAndStop => return,
            AfterCopy::Stop => self.fault.is_final = true,
            AfterCopy::Merge => {
                self.to_merge.push(copy);
                self.require_reopen(FileRole::Wal);
            }
        }
        self.discard();
    }

    fn rescue_failed(&mut self, after_copy: AfterCopy, error: &Error) {
        let Some(open_store) = &self.open_store else {
            return;
        };
        self.fault.rescue_failed_at = Some(Instant::now());
        self.fault.failed_copy = Some(after_copy);
        let is_over = after_copy != AfterCopy::EmptyAndStop && is_unreadable(error);
        let next = match is_over {
            true => "its files are left as they are",
            false => "the server tries again while it runs, so remove the cause before it ends",
        };
        tracing::error!(
            "cannot copy the acknowledged events of the store {}: {}; {next}",
            self.path.display(),
            sentence(error)
        );
        // Before the end, which may come at any time.
        if after_copy != AfterCopy::EmptyAndStop
            && let Some(what) = &self.fault.current
        {
            overwritten_mark::mark(&open_store.files.database, what);
        }
        if is_over {
            // Another server may have read more of it, and needs it alone.
            self.fault.is_final = true;
            self.discard();
        }
    }

    /// Copies all events for the next start, in case the server ends before the WAL is checkpointed. No put is
    /// taken meanwhile.
    pub(super) fn copy_for_the_end(&mut self) {
        let is_early =
            (self.fault.rescue_failed_at).is_some_and(|failed| failed.elapsed() < RESCUE_PAUSE);
        let Some(open_store) = self.open_store.as_ref() else {
            return;
        };
        if is_early || self.fault.standby_copy.is_some() {
            return;
        }
        let (database, modes) = (&open_store.files.database, &open_store.modes);
        let path = self.path.display();
        let wanted = Wanted {
            purpose: Purpose::Wal,
            takes_damaged: false,
            last_key: self.last_key.as_deref(),
        };
        match rescue::rescue(&open_store.connection, database, modes, wanted) {
            Ok(copy) => {
                tracing::error!(
                    "all acknowledged events of the store {path} were copied to {}, until its WAL is checkpointed",
                    copy.display()
                );
                self.fault.copy_not_needed(database);
                self.fault.standby_copy = Some(copy);
            }
            Err(error) => {
                tracing::error!(
                    "cannot copy the acknowledged events of the store {path}: {}; the server tries again while it runs, so remove the cause before it ends",
                    sentence(&error)
                );
                self.fault.rescue_failed_at = Some(Instant::now());
                self.fault.failed_copy = Some(AfterCopy::Merge);
                if let Some(what) = &self.fault.current {
                    overwritten_mark::mark(database, what);
                }
            }
        }
    }

    /// Removes that copy: the database has all events after all.
    pub(super) fn discard_standby_copy(&mut self) {
        self.fault.copy_not_needed(&self.path);
        if let Some(copy) = self.fault.standby_copy.take()
            && let Err(error) = std::fs::remove_file(&copy)
        {
            // Then the next start finds that the store has all of it.
            tracing::warn!("cannot remove {}: {error}", copy.display());
        }
    }
}

/// Whether the data to be copied is lost for good.
fn is_unreadable(error: &Error) -> bool {
    match error {
        Error::StoreFormat { .. } => true,
        Error::Store { source, .. } => is_corruption(&source.0),
        _ => false,
    }
}

fn sentence(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
