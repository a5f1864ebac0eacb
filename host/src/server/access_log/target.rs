//! The output of the access log: a file that can be reopened, or a writer.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::store;

/// The mode of a new file: lines have the addresses of clients, which not every user should read.
#[cfg(unix)]
const FILE_MODE: u32 = 0o640;

/// Why a file that is locked cannot be used.
const LOCKED: &str =
    "another process or a sink has locked it: a server must not append to a file of events";

/// The output of an access log.
pub(super) enum Target {
    File { path: PathBuf, file: File },
    Writer(Box<dyn Write + Send>),
}

impl Target {
    /// A file, which is created if it does not exist.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        // A change of the working directory must not move the log.
        let path = std::path::absolute(path).map_err(|source| cannot_open(path, source))?;
        let file = open_file(&path)?;
        Ok(Self::File { path, file })
    }

    pub(super) fn writer(writer: impl Write + Send + 'static) -> Self {
        Self::Writer(Box::new(writer))
    }

    /// Checks that a file can be opened, without creating it.
    pub(super) fn check(path: &Path) -> Result<(), Error> {
        match fs::metadata(path) {
            Ok(_) => open_file(path).map(drop),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                check_appendable(path)?;
                let parent = path.parent().filter(|parent| *parent != Path::new(""));
                let directory = parent.unwrap_or(Path::new("."));
                check_directory(directory).map_err(|source| cannot_open(path, source))
            }
            Err(source) => Err(cannot_open(path, source)),
        }
    }

    /// The path of a file.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::File { path, .. } => Some(path),
            Self::Writer(_) => None,
        }
    }

    /// Writes to another file from now on.
    pub(super) fn set_file(&mut self, new: File) {
        if let Self::File { file, .. } = self {
            *file = new;
        }
    }

    /// Whether a file ends within a line, as after a loss of power. Blocks.
    pub(super) fn is_torn(&self) -> bool {
        match self {
            // It may be one that the server must not read.
            Self::File { path, file } => ends_within_line(path, file).unwrap_or(false),
            Self::Writer(_) => false,
        }
    }

    /// Writes all bytes. An error comes with the number of those that were written.
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let writer: &mut dyn Write = match self {
            Self::File { file, .. } => file,
            Self::Writer(writer) => writer,
        };
        let mut written = 0;
        while written < bytes.len() {
            match writer.write(&bytes[written..]) {
                Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err((written, error)),
            }
        }
        writer.flush().map_err(|error| (written, error))
    }
}

/// Checks that a file belongs to no store.
fn check_appendable(path: &Path) -> Result<(), Error> {
    store::check_appendable(path).map_err(|error| match error {
        Error::File { source, .. } => cannot_open(path, source),
        other => other,
    })
}

fn cannot_open(path: &Path, source: io::Error) -> Error {
    Error::AccessLog {
        path: path.to_owned(),
        source,
    }
}

/// Opens a file to append to, which is created if it does not exist.
pub(super) fn open_file(path: &Path) -> Result<File, Error> {
    check_appendable(path)?;
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(FILE_MODE);
        // Neither the start nor a reopening waits for the reader of a pipe.
        if let Ok(flags) = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()) {
            options.custom_flags(flags);
        }
    }
    let open = || {
        let file = options.open(path)?;
        // Shared, so that servers may have one log, but not that and the file of a sink.
        if file.metadata()?.is_file()
            && let Err(TryLockError::WouldBlock) = file.try_lock_shared()
        {
            return Err(io::Error::new(ErrorKind::WouldBlock, LOCKED));
        }
        Ok(file)
    };
    open().map_err(|source| cannot_open(path, source))
}

fn ends_within_line(path: &Path, file: &File) -> io::Result<bool> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Ok(false);
    }
    // The other is open for appending only.
    let mut file = File::open(path)?;
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// Checks that a file can be created in a directory.
fn check_directory(directory: &Path) -> io::Result<()> {
    if !fs::metadata(directory)?.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    #[cfg(unix)]
    rustix::fs::access(
        directory,
        rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
    )?;
    Ok(())
}
