//! Checks that a file can be read to its end.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Checks that a file is not a pipe or a device: reading one might never end, or block until another
/// process writes. For a directory, reading itself returns an error.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    let found = fs::metadata(path)?;
    if found.is_file() || found.is_dir() {
        return Ok(());
    }
    let text = "it is not a regular file";
    Err(io::Error::new(ErrorKind::InvalidInput, text))
}
