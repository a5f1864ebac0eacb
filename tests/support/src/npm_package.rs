//! The npm package of `deploy/javascript`: built from the component, packed, and installed as a user does.
//!
//! Built below the installation of jco, which has binaryen, in the version of the package's own lock file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::jco;
use super::process::{finish, run};

/// The name of the packed package.
const PACKED: &str = "alldata-peer-server-http-0.1.0.tgz";

/// The time for the build and npm on a busy machine.
const BUILD_DEADLINE: Duration = Duration::from_secs(300);

/// What is in the folder and is not a part of the package: the tests use the tools of `tests/jco`, and their own
/// component.
const OTHER_FILES: [&str; 4] = [".npmrc", "package-lock.json", "peer.wasm", "peer.wit"];

/// The folders of the package.
const FOLDERS: [&str; 3] = ["", "browser/", "lib/"];

/// A directory that the package is installed in, by the first test that needs it.
pub(super) fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let directory = jco::installed().join("javascript");
        // Another run of the tests may be building. The lock ends with the file.
        let lock = File::create(jco::installed().join("javascript.lock")).expect("is created");
        lock.lock().expect("locks");
        let files = files();
        let user = directory.join("user");
        let stamp = user.join("installed");
        let is_present = |(name, content): &(String, Vec<u8>)| {
            fs::read(directory.join(name)).ok().as_ref() == Some(content)
        };
        if !stamp.exists() || !files.iter().all(is_present) {
            build(&directory, &files);
            install(&directory, &user);
            fs::write(stamp, "").expect("is written");
        }
        user
    })
}

/// The directory that the package is built and packed in. Parallel tests read it.
#[must_use]
pub fn built_package() -> PathBuf {
    let built = installed().parent();
    built.expect("has a parent").to_owned()
}

/// The package as it is installed.
#[must_use]
pub fn installed_package() -> PathBuf {
    installed().join("node_modules/alldata-peer-server-http")
}

/// The files of the package, and the component as the program writes it.
fn files() -> Vec<(String, Vec<u8>)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/javascript");
    let mut files = Vec::new();
    for directory in FOLDERS {
        for entry in fs::read_dir(source.join(directory)).expect("is there") {
            let entry = entry.expect("is an entry");
            let name = entry.file_name().into_string().expect("is text");
            let is_packed = name.ends_with(".tgz") || OTHER_FILES.contains(&&*name);
            if entry.path().is_file() && !is_packed {
                let content = fs::read(entry.path()).expect("reads");
                files.push((format!("{directory}{name}"), content));
            }
        }
    }
    let directory = tempfile::tempdir().expect("makes a directory");
    let component = directory.path().join("peer.wasm");
    run(&["component", "-o", component.to_str().expect("is text")]).assert_ok();
    let component = fs::read(component).expect("reads");
    files.push(("peer.wasm".into(), component));
    files
}

fn build(directory: &Path, files: &[(String, Vec<u8>)]) {
    // It is not there before the first time.
    let _ = fs::remove_dir_all(directory);
    for folder in FOLDERS {
        fs::create_dir_all(directory.join(folder)).expect("makes a directory");
    }
    for (name, content) in files {
        fs::write(directory.join(name), content).expect("is written");
    }
    npm(directory, &["run", "build"]);
    npm(directory, &["pack"]);
}

fn install(directory: &Path, user: &Path) {
    fs::create_dir(user).expect("makes a directory");
    fs::write(user.join("package.json"), "{\"private\":true}").expect("is written");
    let package = format!("{}/{PACKED}", directory.display());
    npm(
        user,
        &["install", "--offline", "--ignore-scripts", &package],
    );
}

fn npm(directory: &Path, arguments: &[&str]) {
    let mut npm = Command::new("npm");
    npm.args(arguments).args(["--no-audit", "--no-fund"]);
    let output = finish(npm.current_dir(directory), "", BUILD_DEADLINE);
    assert_eq!(output.code, Some(0), "npm {arguments:?}: {output:?}");
}
