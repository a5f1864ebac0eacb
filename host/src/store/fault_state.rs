//! What is wrong with the files of an open store, and which recovery that needs.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::overwritten_mark;
use super::reopen::ReopenCondition;
use super::store_files::{FileChange, FileEvent, FileRole};
use crate::util::log_limiter::LogLimiter;

/// What is wrong with the files of a store, and how far it was recovered.
#[derive(Debug, Default)]
pub(super) struct FaultState {
    /// A description of the fault, until puts are taken again.
    pub(super) current: Option<String>,
    pub(super) said: LogLimiter,
    /// Whether this process takes no further put, whatever happens to the files.
    pub(super) is_final: bool,
    /// A copy for the next start, in case the WAL can't be checkpointed before the end.
    pub(super) standby_copy: Option<PathBuf>,
    pub(super) rescue_failed_at: Option<Instant>,
    /// What was to follow a copy that failed.
    pub(super) failed_copy: Option<AfterCopy>,
    /// Whether the files are to be left as they are.
    pub(super) keeps_wal: bool,
    /// Whether the store was closed.
    pub(super) is_closed: bool,
    /// What has to be fulfilled before the store is opened again.
    pub(super) reopen_condition: Option<ReopenCondition>,
}

impl FaultState {
    pub(super) fn is_active(&self) -> bool {
        self.current.is_some()
    }

    /// The files are in order again, or were copied.
    pub(super) fn copy_not_needed(&mut self, database: &Path) {
        if self.failed_copy.take().is_some() {
            overwritten_mark::unmark(database);
        }
    }
}

/// How a store recovers from a change of its files.
pub(super) enum Recovery {
    /// Nothing can be done.
    Wait,
    /// The WAL is checkpointed into the database file, which may come back.
    Checkpoint,
    /// The WAL is checkpointed, and the store opened again.
    Reopen,
    /// Everything that can be read is copied.
    Copy(AfterCopy),
}

/// What is done once a copy is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterCopy {
    /// The WAL is emptied, since what is at the database's path may be another's: then no put is
    /// taken any more.
    EmptyAndStop,
    /// What is on the disk is left as it is, and no put is taken any more.
    Stop,
    /// The store is opened anew, and what is copied put into it.
    Merge,
}

pub(super) fn recovery_for(change: &FileChange) -> Recovery {
    match (change.role, &change.event) {
        (_, FileEvent::Hidden(_)) => Recovery::Wait,
        (FileRole::Database, FileEvent::Moved | FileEvent::Replaced { is_removed: false }) => {
            Recovery::Checkpoint
        }
        (FileRole::Database, FileEvent::CutOff | FileEvent::Overwritten) => {
            Recovery::Copy(AfterCopy::Stop)
        }
        (FileRole::Database, _) => Recovery::Copy(AfterCopy::EmptyAndStop),
        (FileRole::Wal, FileEvent::CutOff | FileEvent::Overwritten) => {
            Recovery::Copy(AfterCopy::Merge)
        }
        (FileRole::Wal | FileRole::Shm, _) => Recovery::Reopen,
    }
}
