//! A file that appears under its name once it is whole and on the disk, and otherwise leaves
//! nothing behind, however the process ends.

use std::fs::{self, File, Metadata, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::signals;

/// How many random names are tried, of which hardly ever one is taken.
const MAX_NAMES: u32 = 16;

/// A file in the making.
pub(crate) struct AtomicFile {
    file: File,
    target: PathBuf,
    name: Name,
}

/// How the file is known before it is whole.
enum Name {
    /// Not at all: it is gone with the process.
    None,
    /// By a random name, for file systems that have no files without one.
    Partial(Arc<PartialName>),
}

/// A name that is removed unless it was renamed: here, or where a signal is taken.
#[derive(Default)]
struct PartialName(Mutex<Option<PathBuf>>);

impl AtomicFile {
    /// A file that is to stand at `target`, which is no link. What stands there now keeps its mode
    /// and its owner.
    pub(crate) fn create(target: &Path) -> io::Result<Self> {
        let directory = directory_of(target);
        let (file, name) = match create_unnamed(directory)? {
            Some(file) => (file, Name::None),
            None => create_partial(directory)?,
        };
        let created = Self {
            file,
            target: target.to_owned(),
            name,
        };
        if let Ok(existing) = fs::metadata(target) {
            keep_mode_and_owner(&created.file, &existing)?;
        }
        Ok(created)
    }

    /// Gives the file its name, in the place of what has that now.
    pub(crate) fn commit(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.sync_all()?;
        match &self.name {
            Name::None => link(&self.file, &self.target)?,
            Name::Partial(partial) => partial.rename(&self.target)?,
        }
        sync_directory(directory_of(&self.target))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Name::Partial(partial) = &self.name {
            partial.remove();
        }
    }
}

impl PartialName {
    fn lock(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self) {
        if let Some(path) = self.lock().take() {
            // What can't be removed is left under a name that says what it is.
            let _ = fs::remove_file(path);
        }
    }

    fn rename(&self, target: &Path) -> io::Result<()> {
        let mut name = self.lock();
        if let Some(path) = name.as_ref() {
            fs::rename(path, target)?;
            *name = None;
        }
        Ok(())
    }
}

/// A file that has no name. `None` where the file system has none such.
#[cfg(target_os = "linux")]
fn create_unnamed(directory: &Path) -> io::Result<Option<File>> {
    use rustix::fs::{Mode, OFlags, open};
    use rustix::io::Errno;

    // Its name is given by way of there.
    if !Path::new("/proc/self/fd").exists() {
        return Ok(None);
    }
    let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
    match open(directory, flags, mode) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn create_unnamed(_: &Path) -> io::Result<Option<File>> {
    Ok(None)
}

/// Gives a file without a name its name.
#[cfg(target_os = "linux")]
fn link(file: &File, target: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;

    use rustix::fs::{AtFlags, CWD, linkat};

    let own = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let link = |name: &Path| {
        linkat(CWD, &own, CWD, name, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)
    };
    match link(target) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        result => return result,
    }
    // Between two calls the file has a name that is not its own.
    signals::ignore_fatal_signals()?;
    let partial = with_random_name(directory_of(target), |partial| {
        link(partial).map(|()| partial.to_owned())
    })?;
    fs::rename(&partial, target).inspect_err(|_| {
        // It is told why it stays, if it does.
        let _ = fs::remove_file(&partial);
    })
}

#[cfg(not(target_os = "linux"))]
fn link(_: &File, _: &Path) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// A file by a random name, which goes where the process is ended by a signal.
fn create_partial(directory: &Path) -> io::Result<(File, Name)> {
    let partial = Arc::new(PartialName::default());
    let removed = Arc::clone(&partial);
    signals::clean_up_on_fatal_signal(move || {
        let name = removed.lock();
        if let Some(path) = name.as_ref() {
            let _ = fs::remove_file(path);
        }
        // Nothing is made any more until the process ends, which is at once.
        std::mem::forget(name);
    })?;
    let mut name = partial.lock();
    let file = with_random_name(directory, |path| {
        // Never one that is there, nor where a link of that name leads.
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        *name = Some(path.to_owned());
        Ok(file)
    })?;
    drop(name);
    Ok((file, Name::Partial(partial)))
}

/// Does something with a path that nothing has yet.
fn with_random_name<T>(
    directory: &Path,
    mut make: impl FnMut(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let mut made = Err(ErrorKind::AlreadyExists.into());
    for number in 0..MAX_NAMES {
        let random = RandomState::new().hash_one(number);
        made = make(&directory.join(format!(".alldata-peer-{random:016x}.partial")));
        match &made {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            _ => break,
        }
    }
    made
}

/// Gives a new file the mode of one that it is to replace, and its owner where that is allowed.
#[cfg(unix)]
fn keep_mode_and_owner(file: &File, existing: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};

    /// Who may read, write and run a file.
    const PERMISSIONS: u32 = 0o777;

    // Only root may give a file away; others keep what they made.
    let _ = fchown(file, Some(existing.uid()), Some(existing.gid()));
    file.set_permissions(fs::Permissions::from_mode(existing.mode() & PERMISSIONS))
}

#[cfg(not(unix))]
fn keep_mode_and_owner(_: &File, _: &Metadata) -> io::Result<()> {
    Ok(())
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        // A file system that has nothing to sync there.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    parent.unwrap_or(Path::new("."))
}
