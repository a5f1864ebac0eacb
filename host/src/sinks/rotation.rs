//! The rotation of the file of `ndjson:`: the moved file is given up for a new one, on request.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::append_file::AppendFile;
use super::appended::{Acknowledged, Displacement};
use crate::error::Error;

/// How long puts wait, after a file was moved, for the request to begin a new one: programs that rotate files send it
/// within milliseconds.
const ROTATION_GRACE: Duration = Duration::from_secs(1);

impl AppendFile {
    /// Waits a moment for the request to begin a new file after this one was moved, and begins it. What was written
    /// to the moved file is then where it has to be.
    pub(super) fn await_rotation(&mut self, what: Displacement) -> Result<(), Displacement> {
        if !what.is_elsewhere() {
            return Err(what);
        }
        let since = *self.displaced_at.get_or_insert_with(Instant::now);
        let left = ROTATION_GRACE.saturating_sub(since.elapsed());
        if self.reopening.wait(left) {
            // An error is reported to whoever made the request, which tries again.
            let _ = self.reopen();
        }
        self.check()
    }

    /// Begins a new file at the path if the old one is not there any more, and is complete elsewhere.
    pub(super) fn reopen(&mut self) -> Result<(), Error> {
        self.reopening.clear();
        let Err(what) = self.check() else {
            return Ok(());
        };
        if matches!(what, Displacement::Removed) {
            self.rescue_if_removed(Duration::ZERO);
        }
        if !self.is_complete_elsewhere(&what) {
            return Err(Error::File {
                operation: "reopen",
                path: self.path.clone(),
                source: io::Error::other(what.to_string()),
            });
        }
        let mut new = Self::open(&self.path, Arc::clone(&self.reopening))?;
        new.reopenings = self.reopenings + 1;
        let mut old = mem::replace(self, new);
        old.is_finished = true;
        tracing::info!(
            "{} is a new file: the old one is not there",
            old.path.display()
        );
        Ok(())
    }

    /// Whether all that was acknowledged is in a file that was moved, or in a copy of one that was removed.
    fn is_complete_elsewhere(&self, what: &Displacement) -> bool {
        let is_whole = |it: &Acknowledged| it.is_in(&self.file).unwrap_or(false);
        match what {
            Displacement::Removed => self.is_rescued,
            what => what.is_elsewhere() && self.acknowledged.as_ref().is_some_and(is_whole),
        }
    }
}
