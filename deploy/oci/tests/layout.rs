//! The layout as a whole, whatever an earlier run has left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const WIT: &str = "package alldata:peer@0.1.0;\ninterface put-sink { put: func(); }\n";
const ENTRIES: [&str; 3] = ["blobs", "index.json", "oci-layout"];

#[test]
fn aborted_run_leaves_no_blob() {
    let directory = Directory::create("aborted");
    for left in ["oci/blobs/sha256/0123", "oci.partial/blobs/sha256/4567"] {
        directory.write(left, "the blob of another run");
    }
    assert!(directory.run("peer.wit").status.success());
    assert_eq!(directory.list("oci"), ENTRIES);
    // A layer, a configuration and a manifest.
    assert_eq!(directory.list("oci/blobs/sha256").len(), 3);
    assert_eq!(directory.list("."), ["oci", "peer.wit"]);
}

#[test]
fn finished_layout_is_replaced() {
    let directory = Directory::create("finished");
    assert!(directory.run("peer.wit").status.success());
    let before = directory.list("oci/blobs/sha256");
    directory.write("peer.wit", &WIT.replace("put-sink", "another"));
    assert!(directory.run("peer.wit").status.success());
    let after = directory.list("oci/blobs/sha256");
    assert_eq!(after.len(), 3);
    assert_ne!(before, after);
}

#[test]
fn failed_run_keeps_earlier_layout() {
    let directory = Directory::create("failed");
    assert!(directory.run("peer.wit").status.success());
    let before = directory.list("oci/blobs/sha256");
    assert!(!directory.run("missing.wit").status.success());
    assert_eq!(directory.list("oci"), ENTRIES);
    assert_eq!(directory.list("oci/blobs/sha256"), before);
}

#[test]
fn directory_of_other_files_is_kept() {
    let directory = Directory::create("other");
    directory.write("oci/notes.txt", "not a layout");
    let output = directory.run("peer.wit");
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("notes.txt"), "{message}");
    assert_eq!(directory.list("oci"), ["notes.txt"]);
}

/// A directory of one test.
struct Directory(PathBuf);

impl Directory {
    fn create(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("oci-layout")
            .join(test);
        if path.exists() {
            fs::remove_dir_all(&path).expect("removes that of the run before");
        }
        let directory = Self(path);
        directory.write("peer.wit", WIT);
        directory
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.0.join(file);
        fs::create_dir_all(path.parent().expect("has a directory")).expect("creates");
        fs::write(path, text).expect("writes");
    }

    /// Makes a layout in `oci` of this file.
    fn run(&self, wit: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_alldata-peer-oci-layout"))
            .current_dir(&self.0)
            .args(["oci", "2026-11-27T00:00:00Z"])
            .arg(format!("peer:0.1.0={wit}"))
            .output()
            .expect("runs")
    }

    fn list(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(directory)).expect("lists");
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<_> = entries.map(|entry| name(entry.expect("lists"))).collect();
        names.sort_unstable();
        names
    }
}
