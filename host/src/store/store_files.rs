//! The files of a store that a connection has open, and whether they are still those at their paths.
//!
//! Compares names, sizes and times. Never opens the database or its shared memory: closing a descriptor of
//! such a file would release SQLite's locks on it in this process.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::checkpoint_lock;
use super::file_id::{FileId, FileStamp, id_and_bytes, id_at, links, read_at};
use super::removed_file::{PathHandle, is_removed};
use super::side_files::beside;
use super::wal_generation::{WalGeneration, generation_of, generations_between};
use super::wal_size::frame_offset;

/// A file of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileRole {
    Database,
    Wal,
    Shm,
}

/// What happened to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileEvent {
    /// It has no name any more.
    Removed,
    /// It has another name, or one that can't be told from none.
    Moved,
    /// Another file has its name. Of the database it is known whether it has another.
    Replaced { is_removed: bool },
    /// It is shorter than what was written to it.
    CutOff,
    /// Something else than SQLite wrote to it.
    Overwritten,
    /// It can't be looked at.
    Hidden(ErrorKind),
}

/// A change of a store's files that SQLite did not make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileChange {
    pub(super) role: FileRole,
    pub(super) event: FileEvent,
    path: PathBuf,
}

impl fmt::Display for FileChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.event {
            FileEvent::Removed => write!(formatter, "{path} was removed"),
            FileEvent::Moved if self.role == FileRole::Shm => {
                write!(formatter, "{path} was removed or moved away")
            }
            FileEvent::Moved => write!(formatter, "{path} was moved away"),
            FileEvent::Replaced { .. } => write!(formatter, "{path} was replaced by another file"),
            FileEvent::CutOff => write!(formatter, "{path} was cut off"),
            FileEvent::Overwritten => write!(formatter, "{path} was written to by another program"),
            FileEvent::Hidden(kind) => write!(formatter, "{path} can't be looked at: {kind}"),
        }
    }
}

/// The state of the files of a store.
#[derive(Debug)]
pub(super) struct FileSnapshot {
    pub(super) database: FileStamp,
    pub(super) links: u64,
    pub(super) wal_bytes: u64,
}

/// The files of a store that a connection has open.
#[derive(Debug)]
pub(super) struct StoreFiles {
    /// The path that a next start would take.
    path: PathBuf,
    /// Where the database itself is, which no link leads to, and the files beside it.
    pub(super) database: PathBuf,
    pub(super) wal: PathBuf,
    shm: PathBuf,
    pub(super) id: FileId,
    wal_id: FileId,
    shm_id: FileId,
    /// Opened to be read: nobody has locks on it.
    pub(super) wal_file: File,
    handle: PathHandle,
}

impl StoreFiles {
    /// The files that are at a path now. What SQLite has open is these if `is_here` says that its
    /// database is, asked in between.
    pub(super) fn at(path: &Path, is_here: impl FnOnce() -> bool) -> io::Result<Self> {
        let database = fs::canonicalize(path)?;
        let handle = PathHandle::open(&database)?;
        let id = FileId::of(&fs::metadata(&database)?);
        let is_here = is_here();
        let again = FileId::of(&fs::metadata(path)?);
        if !is_here || again != id {
            let text = "it was moved while it was opened";
            return Err(io::Error::new(ErrorKind::NotFound, text));
        }
        let (wal, shm) = (beside(&database, "-wal"), beside(&database, "-shm"));
        let wal_file = File::open(&wal)?;
        Ok(Self {
            path: path.to_owned(),
            wal_id: FileId::of(&wal_file.metadata()?),
            shm_id: FileId::of(&fs::metadata(&shm)?),
            database,
            wal,
            shm,
            id,
            wal_file,
            handle,
        })
    }

    /// Holds that each name leads to the file that SQLite has open under it.
    pub(super) fn snapshot(&self) -> Result<FileSnapshot, FileChange> {
        let with_id = |found: Metadata| (FileId::of(&found), found);
        let database = |path, found: io::Result<Metadata>| {
            self.check_identity(FileRole::Database, path, found.map(with_id), self.id)
        };
        if self.path != self.database {
            database(&self.path, fs::metadata(&self.path))?;
        }
        let found = database(&self.database, fs::symlink_metadata(&self.database))?;
        let (wal, shm) = (&self.wal, &self.shm);
        let wal_bytes = self.check_identity(FileRole::Wal, wal, id_and_bytes(wal), self.wal_id)?;
        self.check_identity(FileRole::Shm, shm, id_and_bytes(shm), self.shm_id)?;
        Ok(FileSnapshot {
            database: FileStamp::of(&found),
            links: links(&found),
            wal_bytes,
        })
    }

    pub(super) fn wal_bytes(&self) -> u64 {
        self.wal_file.metadata().map_or(0, |found| found.len())
    }

    /// The current generation of the WAL; `None` if its header can't be read.
    pub(super) fn wal_generation(&self) -> Option<WalGeneration> {
        generation_of(&self.wal_file)
    }

    /// Whether a frame of the WAL is of a generation.
    pub(super) fn has_page(&self, page: u64, page_bytes: u64, generation: WalGeneration) -> bool {
        let mut header = [0; 16];
        let place = frame_offset(page, page_bytes);
        page == 0
            || read_at(&self.wal_file, &mut header, place).is_ok() && header[8..] == generation.salt
    }

    /// Whether the file at the path of the WAL is neither the one that was opened, whose header has or had
    /// `known`, nor one that SQLite may have begun after it.
    pub(super) fn has_foreign_wal(&self, known: Option<WalGeneration>) -> bool {
        let Ok(file) = File::open(&self.wal) else {
            return false;
        };
        let is_own = |found: &Metadata| FileId::of(found) == self.wal_id;
        if file
            .metadata()
            .map_or(true, |found| found.len() == 0 || is_own(&found))
        {
            return false;
        }
        let Some(generation) = generation_of(&file) else {
            // It is shorter than a header.
            return true;
        };
        // Who joins others makes the file anew, and writes its header only when all before has been moved.
        let is_unwritten = generation.number == 0 && generation.salt == [0; 8];
        let Some(known) = known else {
            return false;
        };
        let is_next = generations_between(Some(known), Some(generation)).is_some();
        !is_unwritten && generation.salt != known.salt && !is_next
    }

    /// Whether there is another file at the path of the WAL than the one that was opened.
    pub(super) fn has_other_wal(&self) -> bool {
        id_at(&self.wal).is_some_and(|found| found != self.wal_id)
    }

    /// Whether somebody, as far as the system tells, moves pages to the database at this moment.
    pub(super) fn has_checkpoint(&self) -> bool {
        checkpoint_lock::is_held(self.shm_id.inode)
    }

    pub(super) fn change(&self, role: FileRole, event: FileEvent) -> FileChange {
        let path = match role {
            FileRole::Database => &self.path,
            FileRole::Wal => &self.wal,
            FileRole::Shm => &self.shm,
        };
        let path = path.clone();
        FileChange { role, event, path }
    }

    /// Which file the WAL and the shared memory are.
    pub(super) fn id_of(&self, role: FileRole) -> (&Path, FileId) {
        match role {
            FileRole::Database => (&self.database, self.id),
            FileRole::Wal => (&self.wal, self.wal_id),
            FileRole::Shm => (&self.shm, self.shm_id),
        }
    }

    fn check_identity<T>(
        &self,
        role: FileRole,
        path: &Path,
        found: io::Result<(FileId, T)>,
        id: FileId,
    ) -> Result<T, FileChange> {
        let is_removed = || match role {
            FileRole::Database => self.handle.is_removed(),
            FileRole::Wal => is_removed(&self.wal_file),
            FileRole::Shm => false,
        };
        let event = match found {
            Ok((found, details)) if found == id => return Ok(details),
            Ok(_) => FileEvent::Replaced {
                is_removed: is_removed(),
            },
            Err(error) if is_missing(&error) && is_removed() => FileEvent::Removed,
            Err(error) if is_missing(&error) => FileEvent::Moved,
            Err(error) => FileEvent::Hidden(error.kind()),
        };
        let path = path.to_owned();
        Err(FileChange { role, event, path })
    }
}

/// Holds that a path leads to a file that nobody here has open now.
pub(super) fn check_path(path: &Path, id: FileId) -> Result<(), FileChange> {
    let event = match fs::metadata(path) {
        // SQLite would delete the WAL of an empty database.
        Ok(found) if FileId::of(&found) == id && found.len() == 0 => FileEvent::CutOff,
        Ok(found) if FileId::of(&found) == id => return Ok(()),
        Ok(_) => FileEvent::Replaced { is_removed: false },
        Err(error) if is_missing(&error) => FileEvent::Moved,
        Err(error) => FileEvent::Hidden(error.kind()),
    };
    Err(FileChange {
        role: FileRole::Database,
        event,
        path: path.to_owned(),
    })
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
