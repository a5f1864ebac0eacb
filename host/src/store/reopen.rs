//! When a store whose WAL or shared memory was removed may be opened again.
//!
//! All connections have to share the same WAL and shared memory: one that still has the old files would
//! overwrite what others acknowledge.

use std::path::PathBuf;

use super::file_id::{FileId, id_at};
use super::store_files::{FileRole, StoreFiles};

/// Evidence that the store was open exclusively, or closed by all, since its files changed.
#[derive(Debug)]
pub(super) struct ReopenCondition {
    /// The file that is removed while the store is open exclusively, as evidence for others.
    pub(super) removed: PathBuf,
    /// The condition is met if one of these paths has another file than those listed.
    signs: Vec<(PathBuf, Vec<FileId>)>,
}

impl ReopenCondition {
    /// After a file was removed, moved or replaced.
    pub(super) fn after(role: FileRole, files: &StoreFiles) -> Self {
        let (wal, wal_id) = files.id_of(FileRole::Wal);
        let (shm, shm_id) = files.id_of(FileRole::Shm);
        if role != FileRole::Shm {
            return Self {
                removed: shm.to_owned(),
                signs: vec![(shm.to_owned(), vec![shm_id])],
            };
        }
        // What was put in its place is not what SQLite makes there.
        let known = [Some(shm_id), id_at(shm)];
        Self {
            removed: wal.to_owned(),
            signs: vec![
                (wal.to_owned(), vec![wal_id]),
                (shm.to_owned(), known.into_iter().flatten().collect()),
            ],
        }
    }

    pub(super) fn is_met(&self) -> bool {
        let is_new = |(path, known): &(PathBuf, Vec<FileId>)| {
            id_at(path).is_some_and(|found| !known.contains(&found))
        };
        self.signs.iter().any(is_new)
    }
}
