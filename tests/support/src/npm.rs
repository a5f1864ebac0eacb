//! Packages of npm, installed below the target directory, once for all runs of the tests.
//!
//! Never into the tree, and never a package that the lock file does not name.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::{finish, target};

/// How long npm may take: the largest installation is 340 MB.
const INSTALL_DEADLINE: Duration = Duration::from_secs(600);

/// Installs packages into `target/NAME`, and returns that directory. `files` are its files by name and content, among
/// them `package-lock.json`.
///
/// # Panics
///
/// If Node.js or npm is missing, or npm fails.
#[must_use]
pub fn install(name: &str, files: &[(&str, &str)]) -> PathBuf {
    assert_there("node");
    assert_there("npm");
    let directory = target().join(name);
    fs::create_dir_all(&directory).expect("makes a directory");
    // Another run of the tests may be installing. The lock ends with the file.
    let lock = File::create(directory.join("lock")).expect("is created");
    lock.lock().expect("locks");
    for (name, text) in files {
        let file = directory.join(name);
        // Another run may be reading it.
        if fs::read_to_string(&file).ok().as_deref() != Some(text) {
            fs::write(file, text).expect("is written");
        }
    }
    let (_, lock_file) = files
        .iter()
        .find(|(name, _)| *name == "package-lock.json")
        .expect("packages are pinned");
    // npm begins by removing the directory, and so the stamp of a complete installation.
    let stamp = directory.join("node_modules/.installed");
    if fs::read_to_string(&stamp).ok().as_deref() != Some(lock_file) {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
        let output = finish(npm.current_dir(&directory), "", INSTALL_DEADLINE);
        assert_eq!(output.code, Some(0), "npm ci: {output:?}");
        fs::write(stamp, lock_file).expect("is written");
    }
    directory
}

fn assert_there(program: &str) {
    let mut command = Command::new(program);
    let version = command.arg("--version").stdout(Stdio::null()).status();
    assert!(
        version.is_ok_and(|status| status.success()),
        "{program} is missing: these tests need Node 20.19 or newer and its npm (https://nodejs.org)"
    );
}
