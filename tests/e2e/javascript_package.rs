//! The build of the npm package: its check before it is packed, and how `make bench` makes it.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::{DEADLINE, Output, built_package, finish};

/// The module that is built from the component.
const MODULE: &str = "lib/generated/protocol.core.wasm";

/// A copy of what builds the package, where binaryen is found.
fn copy() -> TempDir {
    let built = built_package();
    let above = built.parent().expect("has a parent");
    let copy = tempfile::tempdir_in(above).expect("makes a directory");
    fs::create_dir_all(copy.path().join("lib/generated")).expect("makes a directory");
    for name in ["build.mjs", "package.json", "peer.wasm", MODULE] {
        fs::copy(built.join(name), copy.path().join(name)).expect("is copied");
    }
    copy
}

fn build(directory: &Path, arguments: &[&str]) -> Output {
    let mut node = Command::new("node");
    node.arg("build.mjs").args(arguments);
    finish(node.current_dir(directory), "", DEADLINE)
}

/// Changes each of these texts in a file into one of the same length.
fn replace(file: &Path, from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let mut content = fs::read(file).expect("reads");
    let mut count = 0;
    for at in 0..content.len() - from.len() {
        if content[at..].starts_with(from) {
            content[at..at + to.len()].copy_from_slice(to);
            count += 1;
        }
    }
    assert_ne!(count, 0, "nothing is replaced");
    fs::write(file, content).expect("is written");
}

#[test]
fn module_of_another_component_is_not_packed() {
    let copy = copy();
    let directory = copy.path();
    build(directory, &["--check"]).assert_ok();
    let component = directory.join("peer.wasm");
    replace(&component, b"a different event", b"another event yet");
    let output = build(directory, &["--check"]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("another component"), "{output:?}");
    build(directory, &[]).assert_ok();
    build(directory, &["--check"]).assert_ok();
    // Nothing can be compared.
    for name in ["peer.wasm", MODULE] {
        let file = directory.join(name);
        fs::remove_file(&file).expect("is removed");
        let output = build(directory, &["--check"]);
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.stderr.contains("is missing"), "{output:?}");
        fs::copy(built_package().join(name), file).expect("is copied");
    }
}

#[test]
fn package_is_checked_before_it_is_packed() {
    let text = fs::read_to_string(built_package().join("package.json")).expect("reads");
    assert!(text.contains(r#""prepack": "node build.mjs --check""#));
}

/// Otherwise `make bench` would measure what was built before.
#[test]
fn failed_build_leaves_no_old_module_to_the_benchmarks() {
    // `PEER` writes the component, and npm then finds no package to build.
    for peer in ["PEER=false", "PEER=true"] {
        let directory = tempfile::tempdir().expect("makes a directory");
        let module = directory.path().join("deploy/javascript").join(MODULE);
        fs::create_dir_all(module.parent().expect("has a parent")).expect("makes a directory");
        fs::write(&module, "old").expect("is written");
        let makefile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Makefile");
        let mut make = Command::new("make");
        // Variables of an enclosing make.
        for variable in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL"] {
            make.env_remove(variable);
        }
        make.args(["-s", "-f"]).arg(makefile);
        make.args(["bench-npm", peer]).current_dir(directory.path());
        let output = finish(&mut make, "", DEADLINE);
        assert_eq!(output.code, Some(0), "{output:?}");
        let lines = output.stderr.lines();
        let told = lines.filter(|line| line.contains("rows of the npm package will be missing"));
        assert_eq!(told.count(), 1, "{output:?}");
        assert!(!module.exists(), "{peer}");
    }
}
