//! The contents of files, for tests that check that nothing changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A file and those beside it, with their bytes.
pub fn files_beside(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(path.parent().expect("is in a directory")).expect("is read");
    let files = files.map(|file| {
        let path = file.expect("is a file").path();
        let bytes = fs::read(&path).expect("is read");
        (path.display().to_string(), bytes)
    });
    files.collect()
}
