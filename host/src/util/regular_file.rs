//! Which files are read at a start: those whose end comes by itself.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Holds that a file is no pipe and no device: reading one might never end, or wait for somebody who writes
/// to it. Of a directory the system says what it is.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    let found = fs::metadata(path)?;
    if found.is_file() || found.is_dir() {
        return Ok(());
    }
    let text = "it is not a regular file";
    Err(io::Error::new(ErrorKind::InvalidInput, text))
}
