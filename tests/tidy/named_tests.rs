//! The tables of the documentation that say what was tested: each test that they name exists.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{assert_none, root};

/// The documents with such tables.
const DOCUMENTS: [&str; 2] = ["docs/deploy.md", "docs/reliability.md"];

/// The last column of such a table.
const COLUMN: &str = "tested by";

#[test]
fn tests_in_the_documentation_exist() {
    for document in DOCUMENTS {
        let text = fs::read_to_string(root().join(document)).expect("reads");
        let named = named_in(&text);
        assert!(!named.is_empty(), "{document} names no test");
        let gone = named.iter().filter(|name| !exists(name));
        assert_none(
            gone.map(|name| format!("{document} names the test {name}, which is not there")),
        );
    }
}

/// The names in backquotes in the last column of each table of tests.
fn named_in(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_in_table = false;
    for line in text.lines() {
        let cell = line.trim_end_matches([' ', '|']).rsplit('|').next();
        let cell = cell.filter(|_| line.starts_with('|')).unwrap_or_default();
        is_in_table = line.starts_with('|') && (is_in_table || cell.trim() == COLUMN);
        if is_in_table && !line.ends_with("| |") {
            let quoted = cell.split('`').skip(1).step_by(2);
            names.extend(quoted.map(str::to_owned));
        }
    }
    names
}

/// Whether a name is a path, a module of `tests/e2e`, several by a `*` at the end, or a test in one.
fn exists(name: &str) -> bool {
    if name.contains('/') {
        return root().join(name).exists();
    }
    let e2e = root().join("tests/e2e");
    if let Some(start) = name.strip_suffix('*') {
        let mut entries = fs::read_dir(e2e).expect("reads").filter_map(Result::ok);
        return entries.any(|entry| entry.file_name().to_string_lossy().starts_with(start));
    }
    let path: PathBuf = name.split("::").collect();
    if module(&e2e.join(&path)).is_some() {
        return true;
    }
    let (Some(parent), Some(test)) = (path.parent(), path.file_name()) else {
        return false;
    };
    let Some(text) = module(&e2e.join(parent)) else {
        return false;
    };
    text.contains(&format!("#[test]\nfn {}()", test.to_string_lossy()))
}

/// The text of a module in a file or a folder of its own.
fn module(path: &Path) -> Option<String> {
    let files = [path.with_extension("rs"), path.join("mod.rs")];
    files.iter().find_map(|file| fs::read_to_string(file).ok())
}

#[test]
fn test_that_is_not_there_is_found() {
    let table = "| a | tested by |\n| --- | --- |\n| `x` | `sinks::gone`, `nats` |\n| b | |\n\n| `y` | z |\n";
    assert_eq!(named_in(table), ["sinks::gone", "nats"]);
    for (name, expected) in [
        ("sinks::gone", false),
        ("gone", false),
        ("nats", true),
        ("store_*", true),
        ("stored_*", false),
        ("sinks::discard_takes_everything", true),
        ("tests/disk/faults.rs", true),
    ] {
        assert_eq!(exists(name), expected, "{name}");
    }
}
