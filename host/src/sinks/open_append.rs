//! Opens what `ndjson:` appends to: a file, a pipe, a terminal.
//!
//! A pipe is only written to, so that it has no reader but those that want the lines: a write that nobody reads
//! then fails, where it would else fill the pipe.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;

/// Opens what is at `path` for appending; a file, which is made if it is not there, also for reading.
pub(super) fn open(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return open_special(path);
    }
    let mut options = OpenOptions::new();
    options.append(true).read(true).create(true).open(path)
}

/// Opens what is no file to be written to, without waiting for a reader.
#[cfg(unix)]
fn open_special(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};

    let flags = OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    // A pipe that nobody reads can't be opened to be written to.
    let _reader = open(path, OFlags::RDONLY | flags, Mode::empty());
    let file = open(path, OFlags::WRONLY | OFlags::APPEND | flags, Mode::empty())?;
    // From here on a write waits for a slow reader.
    fcntl_setfl(&file, fcntl_getfl(&file)?.difference(OFlags::NONBLOCK))?;
    Ok(file.into())
}

#[cfg(not(unix))]
fn open_special(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).open(path)
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

/// The directory that a file is in.
pub(super) fn directory(path: &Path) -> &Path {
    let directory = path.parent().filter(|parent| *parent != Path::new(""));
    directory.unwrap_or(Path::new("."))
}
