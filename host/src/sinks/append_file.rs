//! The file that `ndjson:` appends to, and whether it is still the one at its path.
//!
//! A file that is moved, removed, replaced or truncated while it is open takes bytes as before, but what is
//! written then is not where anybody looks for it. So that is checked before and after each write. Pipes,
//! terminals and sockets are not checked: they are at no path, or keep nothing.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::error::Error;
#[cfg(unix)]
use crate::store::is_hidden;

/// A file that is open for appending.
#[derive(Debug)]
pub(super) struct AppendFile {
    path: PathBuf,
    file: File,
    /// Its length when the last write was acknowledged. `None` for what is no regular file.
    length: Option<u64>,
    /// Whether it ends within a line.
    is_torn: bool,
    is_displaced: bool,
}

/// Why a file was not written, or may have been written in vain.
#[derive(Debug, thiserror::Error)]
pub(super) enum AppendError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}; nothing was written")]
    Displaced(Displacement),
    #[error("{0}; that was found after the write")]
    DisplacedMeanwhile(Displacement),
}

/// What became of a file that is open.
#[derive(Debug, thiserror::Error)]
pub(super) enum Displacement {
    #[error("it was removed: restart the server to begin a new file")]
    Removed,
    #[error(
        "it was moved, or its directory was: move it back, or restart the server to begin a new file"
    )]
    Moved,
    #[error("another file is at its path: move the first one back, or restart the server")]
    Replaced,
    #[error(
        "it was truncated from {from} to {to} bytes, and has lost acknowledged events: restore it, or restart the server"
    )]
    Truncated { from: u64, to: u64 },
    #[error("its path can't be looked up: {0}")]
    Hidden(io::Error),
}

impl AppendFile {
    /// Opens the file at `path`, which is made if it is not there, and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let fail = |source| Error::File {
            operation: "open",
            path: path.to_owned(),
            source,
        };
        let mut options = OpenOptions::new();
        let opened = options.append(true).read(true).create(true).open(path);
        let mut file = opened.map_err(|error| fail(explain_open(path, error)))?;
        let metadata = file.metadata().map_err(fail)?;
        if metadata.is_file() {
            // Another writer's lines could be taken back with those that failed here.
            file.try_lock().map_err(|error| fail(explain_lock(error)))?;
            sync_directory(path).map_err(fail)?;
        }
        Ok(Self {
            path: path.to_owned(),
            is_torn: is_torn(&mut file).map_err(fail)?,
            length: metadata.is_file().then_some(metadata.len()),
            file,
            is_displaced: false,
        })
    }

    /// Appends lines and syncs them. A write that fails half-way is taken back, as far as the disk allows.
    pub(super) fn append(&mut self, mut lines: String) -> Result<(), AppendError> {
        if self.is_torn {
            lines.insert(0, '\n');
        }
        let metadata = self.file.metadata()?;
        self.check(&metadata, self.length)
            .map_err(AppendError::Displaced)?;
        let before = metadata.len();
        if let Err(error) = self.file.write_all(lines.as_bytes()) {
            self.is_torn |= self.file.set_len(before).is_err();
            return Err(error.into());
        }
        // Once written, the lines stay: a put that was not synced may be stored.
        self.is_torn = false;
        match self.file.sync_data() {
            // A pipe or a terminal has nothing to sync.
            Err(error) if error.kind() == ErrorKind::InvalidInput => {}
            result => result?,
        }
        let after = before + lines.len() as u64;
        self.check(&self.file.metadata()?, self.length.map(|_| after))
            .map_err(AppendError::DisplacedMeanwhile)?;
        if let Some(length) = &mut self.length {
            *length = after;
        }
        Ok(())
    }

    /// Whether the file is at its path, and as long as it has to be.
    fn check(&self, metadata: &Metadata, length: Option<u64>) -> Result<(), Displacement> {
        let Some(length) = length else {
            return Ok(());
        };
        let at_path = fs::metadata(&self.path);
        check_identity(&self.file, metadata, at_path)?;
        let to = metadata.len();
        if to < length {
            return Err(Displacement::Truncated { from: length, to });
        }
        Ok(())
    }

    /// Remembers how a write went, and says once that the file is back.
    pub(super) fn note(&mut self, result: &Result<(), AppendError>) {
        let is_displaced = matches!(
            result,
            Err(AppendError::Displaced(_) | AppendError::DisplacedMeanwhile(_))
        );
        if self.is_displaced && !is_displaced {
            tracing::info!("{} is in its place again", self.path.display());
        }
        self.is_displaced = is_displaced;
    }
}

impl Drop for AppendFile {
    /// Says at the end what no put has met.
    fn drop(&mut self) {
        let Ok(metadata) = self.file.metadata() else {
            return;
        };
        if let Err(displacement) = self.check(&metadata, self.length) {
            let path = self.path.display();
            tracing::error!(%displacement, "{path} is not closed as it was written");
        }
    }
}

#[cfg(unix)]
fn check_identity(
    file: &File,
    open: &Metadata,
    at_path: io::Result<Metadata>,
) -> Result<(), Displacement> {
    use std::os::unix::fs::MetadataExt as _;

    if open.nlink() == 0 {
        return Err(Displacement::Removed);
    }
    match at_path {
        Ok(other) if (other.dev(), other.ino()) == (open.dev(), open.ino()) => Ok(()),
        Ok(_) => Err(Displacement::Replaced),
        Err(error) if error.kind() == ErrorKind::NotFound && is_hidden(file) => {
            Err(Displacement::Removed)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Displacement::Moved),
        Err(error) => Err(Displacement::Hidden(error)),
    }
}

/// Elsewhere files have no identity that could be compared.
#[cfg(not(unix))]
fn check_identity(
    _file: &File,
    _open: &Metadata,
    at_path: io::Result<Metadata>,
) -> Result<(), Displacement> {
    match at_path {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Displacement::Moved),
        Err(error) => Err(Displacement::Hidden(error)),
    }
}

/// What the system's word for a file that can't be opened means here.
pub(super) fn explain_open(path: &Path, error: io::Error) -> io::Error {
    let parent = directory(path);
    let text = match error.kind() {
        ErrorKind::NotFound if !parent.exists() => {
            format!("the directory {} does not exist", parent.display())
        }
        ErrorKind::NotADirectory => format!("{} is not a directory", parent.display()),
        ErrorKind::IsADirectory => "it is a directory".to_owned(),
        ErrorKind::PermissionDenied => format!("this user may not write it ({error})"),
        _ => return error,
    };
    io::Error::new(error.kind(), text)
}

fn explain_lock(error: TryLockError) -> io::Error {
    let locked = "another process has locked it: two servers must not write to one file";
    match error {
        TryLockError::WouldBlock => io::Error::new(ErrorKind::WouldBlock, locked),
        TryLockError::Error(error) => error,
    }
}

/// Makes sure that a file which was just made is still there after a loss of power.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}

fn directory(path: &Path) -> &Path {
    let directory = path.parent().filter(|parent| *parent != Path::new(""));
    directory.unwrap_or(Path::new("."))
}

/// Whether a file that is not empty lacks its last line break. A pipe can't be read back.
fn is_torn(file: &mut File) -> io::Result<bool> {
    if !file.metadata()?.is_file() || file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}
