//! The sizes of the rooms of the host: few entries at the top, and short files.

use std::fs;

use crate::{assert_none, root, rust_files};

/// The folder with the rooms.
const ROOMS: &str = "host/src";

/// The most files and folders directly in it.
const MAX_ENTRIES: usize = 12;

/// The most lines of a file in it.
const MAX_FILE_LINES: usize = 350;

/// The median of the lines of all files in it has to be less.
const MAX_MEDIAN_LINES: usize = 130;

#[test]
fn host_has_few_entries() {
    let entries = fs::read_dir(root().join(ROOMS)).expect("lists").count();
    assert!(entries <= MAX_ENTRIES, "{ROOMS} has {entries} entries");
}

#[test]
fn files_of_host_are_short() {
    let mut files = rust_files();
    files.retain(|(path, _)| path.starts_with(ROOMS));
    let lines = |text: &str| text.lines().count();
    let mut all: Vec<usize> = files.iter().map(|(_, text)| lines(text)).collect();
    all.sort_unstable();
    let median = all[all.len() / 2];
    let mut findings = Vec::new();
    if median >= MAX_MEDIAN_LINES {
        findings.push(format!("the median file of {ROOMS} has {median} lines"));
    }
    let long = files
        .iter()
        .filter(|(_, text)| lines(text) > MAX_FILE_LINES);
    findings
        .extend(long.map(|(path, text)| format!("{} has {} lines", path.display(), lines(text))));
    assert_none(findings.into_iter());
}
