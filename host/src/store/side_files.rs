//! The files beside a store's database: their paths and sizes.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// A file beside a store's database, such as `-wal`.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path: OsString = database.into();
    path.push(suffix);
    path.into()
}

/// How many bytes there are in a file that may not be there.
pub(super) fn bytes_in(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}
