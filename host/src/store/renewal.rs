//! When a store whose WAL or shared memory went away may be opened again.
//!
//! All who have it open have to have the same of both: those who still have the old ones would write
//! over what others acknowledge. Never opens a file.

use std::path::PathBuf;

use super::identity::{FileId, Role, StoreFiles, id_at};

/// What shows that somebody had a store alone, or was there first when all others had closed it.
#[derive(Debug)]
pub(super) struct Renewal {
    /// The file that is removed by who has the store alone, so that others see it.
    pub(super) removed: PathBuf,
    /// Paths, one of which has to have another file than these.
    signs: Vec<(PathBuf, Vec<FileId>)>,
}

impl Renewal {
    /// After a file was removed, moved or replaced.
    pub(super) fn after(role: Role, files: &StoreFiles) -> Self {
        let (wal, wal_id) = files.id_of(Role::Wal);
        let (shm, shm_id) = files.id_of(Role::Shm);
        if role != Role::Shm {
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

    pub(super) fn is_done(&self) -> bool {
        let is_new = |(path, known): &(PathBuf, Vec<FileId>)| {
            id_at(path).is_some_and(|found| !known.contains(&found))
        };
        self.signs.iter().any(is_new)
    }
}
