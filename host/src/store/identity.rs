//! The files of a store that a connection has open, and whether they are still those at their paths.
//!
//! Looks at names, sizes and times. Never opens the database or its shared memory: whoever closes
//! such a file in this process would give up SQLite's locks on it.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::checkpoint_lock;
use super::location::beside;
use super::removed::{Handle, is_removed};
use super::wal_mark::rounds_between;
use super::wal_size::{WAL_HEADER_BYTES, start_of};

/// Which file it is, whatever its name. The system may give the number of a file that was removed to
/// a new one, which was made at another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
    created: Option<SystemTime>,
}

impl FileId {
    pub(super) fn of(found: &Metadata) -> Self {
        #[cfg(unix)]
        let (device, inode) = {
            use std::os::unix::fs::MetadataExt as _;
            (found.dev(), found.ino())
        };
        // A system that does not let open files be moved or removed.
        #[cfg(not(unix))]
        let (device, inode) = (0, 0);
        Self {
            device,
            inode,
            created: found.created().ok(),
        }
    }
}

/// The number of names that a file has.
pub(super) fn links(found: &Metadata) -> u64 {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::nlink(found);
    #[cfg(not(unix))]
    return u64::from(found.is_file());
}

/// A file of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Database,
    Wal,
    Shm,
}

/// What happened to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
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
pub(super) struct Change {
    pub(super) role: Role,
    pub(super) event: Event,
    path: PathBuf,
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.event {
            Event::Removed => write!(formatter, "{path} was removed"),
            Event::Moved if self.role == Role::Shm => {
                write!(formatter, "{path} was removed or moved away")
            }
            Event::Moved => write!(formatter, "{path} was moved away"),
            Event::Replaced { .. } => write!(formatter, "{path} was replaced by another file"),
            Event::CutOff => write!(formatter, "{path} was cut off"),
            Event::Overwritten => write!(formatter, "{path} was written to by another program"),
            Event::Hidden(kind) => write!(formatter, "{path} can't be looked at: {kind}"),
        }
    }
}

/// Size and time of a database, which only a checkpoint changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) bytes: u64,
    modified: Option<SystemTime>,
}

/// How long after a change another one may leave the same time: some ticks of the system's clock.
pub(super) const FRESH: Duration = Duration::from_millis(30);

impl Stamp {
    /// Whether the next change may not show.
    pub(super) fn is_fresh(self) -> bool {
        let age = self.modified.and_then(|modified| modified.elapsed().ok());
        age.is_some_and(|age| age < FRESH)
    }

    pub(super) fn of(found: &Metadata) -> Self {
        Self {
            bytes: found.len(),
            modified: found.modified().ok(),
        }
    }
}

/// What a look at the files of a store saw.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) database: Stamp,
    pub(super) links: u64,
    pub(super) wal_bytes: u64,
}

/// What SQLite writes into the header of a WAL whenever it begins it anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Round {
    /// How often the writer has done so, and those before it as far as it knows: 0 in a new WAL.
    pub(super) number: u32,
    /// Also in the header of each page. SQLite counts the first half, and makes the second up.
    pub(super) salt: [u8; 8],
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
    handle: Handle,
}

impl StoreFiles {
    /// The files that are at a path now. What SQLite has open is these if `is_here` says that its
    /// database is, asked in between.
    pub(super) fn at(path: &Path, is_here: impl FnOnce() -> bool) -> io::Result<Self> {
        let database = fs::canonicalize(path)?;
        let handle = Handle::open(&database)?;
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
    pub(super) fn look(&self) -> Result<Look, Change> {
        if self.path != self.database {
            let found = fs::metadata(&self.path);
            self.judge(Role::Database, &self.path, found, self.id)?;
        }
        let found = self.find(Role::Database, &self.database, self.id)?;
        let wal = self.find(Role::Wal, &self.wal, self.wal_id)?;
        self.find(Role::Shm, &self.shm, self.shm_id)?;
        Ok(Look {
            database: Stamp::of(&found),
            links: links(&found),
            wal_bytes: wal.len(),
        })
    }

    pub(super) fn wal_bytes(&self) -> u64 {
        self.wal_file.metadata().map_or(0, |found| found.len())
    }

    /// What marks the current round of the WAL, in its header; `None` where that can't be read.
    pub(super) fn wal_round(&self) -> Option<Round> {
        round_of(&self.wal_file)
    }

    /// Whether the WAL has a page of a round.
    pub(super) fn has_page(&self, page: u64, page_bytes: u64, round: Round) -> bool {
        let mut header = [0; 16];
        let place = start_of(page, page_bytes);
        page == 0
            || read_at(&self.wal_file, &mut header, place).is_ok() && header[8..] == round.salt
    }

    /// Whether the file at the path of the WAL is neither the one that was opened, whose header has or had
    /// `known`, nor one that SQLite may have begun after it.
    pub(super) fn has_foreign_wal(&self, known: Option<Round>) -> bool {
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
        let Some(round) = round_of(&file) else {
            // It is shorter than a header.
            return true;
        };
        // Who joins others makes the file anew, and writes its header only when all before has been moved.
        let is_unwritten = round.number == 0 && round.salt == [0; 8];
        let Some(known) = known else {
            return false;
        };
        let is_next = rounds_between(Some(known), Some(round)).is_some();
        !is_unwritten && round.salt != known.salt && !is_next
    }

    /// Whether there is another file at the path of the WAL than the one that was opened.
    pub(super) fn has_other_wal(&self) -> bool {
        id_at(&self.wal).is_some_and(|found| found != self.wal_id)
    }

    /// Whether somebody, as far as the system tells, moves pages to the database at this moment.
    pub(super) fn has_checkpoint(&self) -> bool {
        checkpoint_lock::is_held(self.shm_id.inode)
    }

    pub(super) fn change(&self, role: Role, event: Event) -> Change {
        let path = match role {
            Role::Database => &self.path,
            Role::Wal => &self.wal,
            Role::Shm => &self.shm,
        };
        let path = path.clone();
        Change { role, event, path }
    }

    /// Which file the WAL and the shared memory are.
    pub(super) fn id_of(&self, role: Role) -> (&Path, FileId) {
        match role {
            Role::Database => (&self.database, self.id),
            Role::Wal => (&self.wal, self.wal_id),
            Role::Shm => (&self.shm, self.shm_id),
        }
    }

    /// The file at a path where SQLite follows no link.
    fn find(&self, role: Role, path: &Path, id: FileId) -> Result<Metadata, Change> {
        self.judge(role, path, fs::symlink_metadata(path), id)
    }

    fn judge(
        &self,
        role: Role,
        path: &Path,
        found: io::Result<Metadata>,
        id: FileId,
    ) -> Result<Metadata, Change> {
        let is_removed = || match role {
            Role::Database => self.handle.is_removed(),
            Role::Wal => is_removed(&self.wal_file),
            Role::Shm => false,
        };
        let event = match found {
            Ok(found) if FileId::of(&found) == id => return Ok(found),
            Ok(_) => Event::Replaced {
                is_removed: is_removed(),
            },
            Err(error) if is_missing(&error) && is_removed() => Event::Removed,
            Err(error) if is_missing(&error) => Event::Moved,
            Err(error) => Event::Hidden(error.kind()),
        };
        let path = path.to_owned();
        Err(Change { role, event, path })
    }
}

/// What marks the current round of a WAL, in its header.
fn round_of(wal: &File) -> Option<Round> {
    let mut header = [0; WAL_HEADER_BYTES];
    read_at(wal, &mut header, 0).ok()?;
    let (mut number, mut salt) = ([0; 4], [0; 8]);
    number.copy_from_slice(&header[12..16]);
    salt.copy_from_slice(&header[16..24]);
    Some(Round {
        number: u32::from_be_bytes(number),
        salt,
    })
}

#[cfg(unix)]
pub(super) fn read_at(file: &File, bytes: &mut [u8], place: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, place)
}

#[cfg(windows)]
pub(super) fn read_at(file: &File, bytes: &mut [u8], place: u64) -> io::Result<()> {
    match std::os::windows::fs::FileExt::seek_read(file, bytes, place)? {
        read if read == bytes.len() => Ok(()),
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
}

/// The file at a path where SQLite follows no link, if there is one.
pub(super) fn id_at(path: &Path) -> Option<FileId> {
    fs::symlink_metadata(path)
        .ok()
        .map(|found| FileId::of(&found))
}

/// Holds that a path leads to a file that nobody here has open now.
pub(super) fn look_for(path: &Path, id: FileId) -> Result<(), Change> {
    let event = match fs::metadata(path) {
        // SQLite would delete the WAL of an empty database.
        Ok(found) if FileId::of(&found) == id && found.len() == 0 => Event::CutOff,
        Ok(found) if FileId::of(&found) == id => return Ok(()),
        Ok(_) => Event::Replaced { is_removed: false },
        Err(error) if is_missing(&error) => Event::Moved,
        Err(error) => Event::Hidden(error.kind()),
    };
    Err(Change {
        role: Role::Database,
        event,
        path: path.to_owned(),
    })
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
