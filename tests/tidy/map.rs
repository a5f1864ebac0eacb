//! The documentation compared with the tree: each path that it names exists, and ARCHITECTURE.md names each
//! folder with Rust.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::{FOLDERS, assert_none, root, rust_files};

/// The folder whose direct subfolders have to be named themselves.
const ROOMS: &str = "host/src";

/// The file with the map of the tree.
const MAP: &str = "ARCHITECTURE.md";

#[test]
fn named_paths_exist() {
    for file in [MAP, "CONTRIBUTING.md", "README.md", "docs/reliability.md"] {
        let named = named_in(file);
        let gone = named.iter().filter(|name| !root().join(name).exists());
        assert_none(gone.map(|name| format!("{file} names {name}, which is not there")));
    }
}

#[test]
fn folders_with_rust_are_in_architecture() {
    let named = named_in(MAP);
    let files = rust_files();
    let folders = files.iter().filter_map(|(path, _)| path.parent());
    let folders: BTreeSet<&Path> = folders.collect();
    assert_none(
        folders
            .into_iter()
            .filter(|folder| !is_named(folder, &named))
            .map(|folder| format!("{} is not named", folder.display())),
    );
}

/// Whether a folder is named, or a file in it, or a folder above it that stands for all of its contents.
fn is_named(folder: &Path, named: &[String]) -> bool {
    let names = |folder: &Path| {
        named.iter().map(Path::new).any(|name| {
            name == folder || name.parent() == Some(folder) && name.extension().is_some()
        })
    };
    let stands_for_all = |above: &&Path| !Path::new(ROOMS).starts_with(above);
    names(folder)
        || !folder.starts_with(ROOMS) && folder.ancestors().filter(stands_for_all).any(names)
}

/// The files and folders in backquotes.
fn named_in(file: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(file)).expect("reads");
    let names = text.split('`').skip(1).step_by(2);
    let names = names.filter(|name| {
        let is_in = |folder: &&str| name.starts_with(&format!("{folder}/"));
        // NAME is a placeholder for a name that a reader chooses.
        FOLDERS.iter().any(is_in) && !name.contains("NAME")
    });
    names.map(str::to_owned).collect()
}

#[test]
fn room_without_a_name_is_found() {
    let named = ["bench/", "host/src/server/service.rs", "host/src/store/"].map(str::to_owned);
    for (folder, expected) in [
        ("bench/src/soak", true),
        ("host/src/server", true),
        ("host/src/store", true),
        ("host/src/sinks", false),
        ("host/src/store/deep", false),
        ("tests/e2e", false),
    ] {
        assert_eq!(is_named(Path::new(folder), &named), expected, "{folder}");
    }
}
