//! The file that `ndjson:` appends to, and whether it is still the one at its path, with what was written to it.
//!
//! A file that is moved, removed, replaced, truncated or overwritten while it is open takes bytes as before, but
//! what is written then is not where anybody looks for it. So that is checked before and after each write, and
//! once a second. A file that was moved away is given up for a new one on request. Pipes, terminals and sockets are not checked: they are at no path, or keep nothing.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::appended::{Acknowledged, Displacement, check_identity};
use super::open_append::{explain_open, open};
use crate::error::Error;
use crate::sink::reopen::ReopenRequest;
use crate::store::{FileRescue, check_appendable};
use crate::util::file_lock::has_fcntl_lock;

/// How long a copy that could not be made is not tried again: it reads the whole file.
const RESCUE_PAUSE: Duration = Duration::from_secs(10);

/// A file that is open for appending.
#[derive(Debug)]
pub(super) struct AppendFile {
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// What was acknowledged. `None` for what is no regular file.
    pub(super) acknowledged: Option<Acknowledged>,
    /// Whether it ends within a line.
    is_torn: bool,
    /// Why it is not the file that it has to be, as it was last said.
    displaced: Option<String>,
    /// When it was found displaced.
    pub(super) displaced_at: Option<Instant>,
    pub(super) reopening: Arc<ReopenRequest>,
    rescue: FileRescue,
    pub(super) is_rescued: bool,
    rescue_failed_at: Option<Instant>,
    pub(super) is_finished: bool,
    /// How many times a new file took the place of the old one.
    pub(super) reopenings: u64,
}

/// Why a file was not written, or may have been written in vain.
#[derive(Debug, thiserror::Error)]
pub(super) enum AppendError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("nobody reads it")]
    NoReader,
    #[error("{0}; nothing was written")]
    Displaced(Displacement),
    #[error("{0}; that was found after the write")]
    DisplacedMeanwhile(Displacement),
}

impl AppendFile {
    /// Opens the file at `path`, which is made if it is not there, and locks it.
    pub(super) fn open(path: &Path, reopening: Arc<ReopenRequest>) -> Result<Self, Error> {
        let fail = |source| Error::File {
            operation: "open",
            path: path.to_owned(),
            source,
        };
        check_appendable(path).map_err(|error| match error {
            Error::File {
                operation,
                path,
                source,
            } => Error::File {
                operation,
                source: explain_open(&path, source),
                path,
            },
            other => other,
        })?;
        // Of a relative path, another directory may be the working one later, or have another name.
        let path = std::path::absolute(path).map_err(fail)?;
        let mut file = open(&path).map_err(|error| fail(explain_open(&path, error)))?;
        let mut acknowledged = None;
        if file.metadata().map_err(fail)?.is_file() {
            // Another writer's lines could be taken back with those that failed here.
            file.try_lock().map_err(|error| fail(explain_lock(error)))?;
            if has_fcntl_lock(&file) {
                return Err(fail(explain_lock(TryLockError::WouldBlock)));
            }
            sync_directory(&path).map_err(fail)?;
            acknowledged = Some(Acknowledged::read(&mut file).map_err(fail)?);
        }
        let rescue = FileRescue::of(&path);
        for copy in rescue.copies() {
            let (path, copy) = (path.display(), copy.display());
            tracing::warn!(
                "{copy} has the events of a file at {path} that was removed while a server had it open"
            );
        }
        Ok(Self {
            path,
            file,
            is_torn: acknowledged.as_ref().is_some_and(Acknowledged::is_torn),
            acknowledged,
            displaced: None,
            displaced_at: None,
            reopening,
            rescue,
            is_rescued: false,
            is_finished: false,
            rescue_failed_at: None,
            reopenings: 0,
        })
    }

    /// Its absolute path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it may be found in another place, or with other bytes, than it has to be.
    pub(super) fn is_checked(&self) -> bool {
        self.acknowledged.is_some()
    }

    /// Appends lines and syncs them. A write that fails half-way is taken back, as far as the disk allows.
    pub(super) fn append(&mut self, lines: String) -> Result<(), AppendError> {
        let result = self.append_unless_displaced(lines);
        match &result {
            Err(AppendError::Displaced(what) | AppendError::DisplacedMeanwhile(what)) => {
                let what = what.to_string();
                self.note(Some(what));
            }
            _ => self.note(None),
        }
        result
    }

    fn append_unless_displaced(&mut self, mut lines: String) -> Result<(), AppendError> {
        if let Err(what) = self.check() {
            self.await_rotation(what).map_err(AppendError::Displaced)?;
        }
        if self.is_torn {
            lines.insert(0, '\n');
        }
        let before = self.file.metadata()?.len();
        if let Err((written, error)) = write_all(&mut self.file, lines.as_bytes()) {
            self.is_torn |= written > 0 && self.file.set_len(before).is_err();
            return Err(match error.kind() {
                ErrorKind::BrokenPipe => AppendError::NoReader,
                _ => error.into(),
            });
        }
        // Once written, the lines stay: a put that was not synced may be stored.
        self.is_torn = false;
        match self.file.sync_data() {
            // A pipe or a terminal has nothing to sync.
            Err(error) if error.kind() == ErrorKind::InvalidInput => {}
            result => result?,
        }
        if let Some(before) = &self.acknowledged {
            // Behind the lines, wherever the end of the file was.
            let length = self.file.stream_position()?;
            let written = Acknowledged::of(lines.into_bytes(), length);
            // Another program may have come in between.
            let found = self
                .check_for(before)
                .and_then(|()| self.check_for(&written));
            let (before, reopenings) = (self.acknowledged.replace(written), self.reopenings);
            if let Err(what) = found
                && let Err(what) = self.await_rotation(what)
            {
                // A new file that was moved at once has nothing of the old one.
                if self.reopenings == reopenings {
                    self.acknowledged = before;
                }
                return Err(AppendError::DisplacedMeanwhile(what));
            }
        }
        Ok(())
    }

    /// Whether the file is at its path, and has what was acknowledged.
    pub(super) fn check(&self) -> Result<(), Displacement> {
        match &self.acknowledged {
            Some(acknowledged) => self.check_for(acknowledged),
            None => Ok(()),
        }
    }

    fn check_for(&self, acknowledged: &Acknowledged) -> Result<(), Displacement> {
        let metadata = self.file.metadata().map_err(Displacement::Hidden)?;
        check_identity(&self.file, &metadata, fs::metadata(&self.path))?;
        let (from, to) = (acknowledged.length, metadata.len());
        if to < from {
            return Err(Displacement::Truncated { from, to });
        }
        let is_there = acknowledged.is_in(&self.file);
        match is_there.map_err(Displacement::Hidden)? {
            true => Ok(()),
            false => Err(Displacement::Overwritten),
        }
    }

    /// Looks at the file while nothing is written to it.
    pub(super) fn look(&mut self) {
        let displaced = self.check().err().map(|what| what.to_string());
        self.note(displaced);
    }

    /// Says once what became of the file, and once that it is back. Of one that was removed, a copy is made.
    fn note(&mut self, displaced: Option<String>) {
        let path = self.path.display();
        match (&self.displaced, &displaced) {
            (before, Some(what)) if before.as_ref() != Some(what) => {
                tracing::error!("{path} takes no puts: {what}");
            }
            (Some(_), None) => tracing::info!("{path} is in its place again"),
            _ => {}
        }
        if displaced.is_none() {
            self.displaced_at = None;
        } else {
            self.displaced_at.get_or_insert_with(Instant::now);
        }
        self.displaced = displaced;
        if self.displaced.is_some() {
            self.rescue_if_removed(RESCUE_PAUSE);
        }
    }

    /// Says at the end what no put has met. Returns whether the file was removed, and there is no copy.
    pub(super) fn finish(&mut self) -> bool {
        self.is_finished = true;
        let Err(displacement) = self.check() else {
            return false;
        };
        let path = self.path.display();
        tracing::error!(%displacement, "{path} is not closed as it was written");
        self.rescue_if_removed(Duration::ZERO);
        !self.is_rescued && matches!(displacement, Displacement::Removed)
    }

    /// Copies what is acknowledged of a file that has no name any more, unless that failed just before.
    pub(super) fn rescue_if_removed(&mut self, pause: Duration) {
        let is_late = |failed_at: Instant| failed_at.elapsed() >= pause;
        if self.is_rescued
            || !self.rescue_failed_at.is_none_or(is_late)
            || !matches!(self.check(), Err(Displacement::Removed))
        {
            return;
        }
        let path = self.path.display();
        match self.rescue.copy(&mut self.file) {
            Ok(copy) => {
                self.is_rescued = true;
                tracing::error!(
                    "{path} was removed: all that it had was copied to {}",
                    copy.display()
                );
            }
            Err(error) => {
                self.rescue_failed_at = Some(Instant::now());
                let source = std::error::Error::source(&error).map(ToString::to_string);
                let source = source.unwrap_or_default();
                tracing::error!(
                    "{path} was removed, and what it had can't be copied: {error}: {source}"
                );
            }
        }
    }
}

impl Drop for AppendFile {
    /// After a panic of the writer a removed file is copied, too.
    fn drop(&mut self) {
        if !self.is_finished {
            self.finish();
        }
    }
}

/// Writes all, or tells how much of it was written.
fn write_all(file: &mut File, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
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
    File::open(super::open_append::directory(path))?.sync_all()
}
