//! Skipped tests: reported by name where a person runs them, failed if `CI` is set.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::can_make;

/// Set in the process in which the test below is really skipped.
const PROBE: &str = "SKIPPING_PROBE";

#[test]
fn test_without_its_tool_is_reported_by_name() {
    if env::var_os(PROBE).is_some() {
        assert!(!can_make("a probe", Some("there is no probe")));
        return;
    }
    let directory = tempfile::tempdir().expect("makes a directory");
    let file = directory.path().join("skipped-tests");
    assert!(skip(&file, "").status.success());
    let name = "skipping::test_without_its_tool_is_reported_by_name";
    let line = format!("{name} (a probe): there is no probe");
    let written = fs::read_to_string(&file).expect("is written");
    assert_eq!(written, format!("{line}\n"));
    let summary = format!("Skipped tests: 1\n  {line}\n");
    assert_eq!(summary_of(&file), summary);
}

#[test]
fn test_without_its_tool_fails_in_ci() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let file = directory.path().join("skipped-tests");
    for ci in ["true", "1"] {
        let output = skip(&file, ci);
        assert!(!output.status.success(), "CI={ci}: {output:?}");
    }
    assert!(!file.exists());
    assert_eq!(summary_of(&file), "Skipped tests: none\n");
}

/// Runs the test above in a process of its own, in which it is skipped.
fn skip(file: &Path, ci: &str) -> Output {
    let test = "skipping::test_without_its_tool_is_reported_by_name";
    // With several threads, each test has a thread of its name.
    let arguments = ["--exact", test, "--test-threads=2"];
    let this = env::current_exe().expect("has a path");
    let mut command = Command::new(this);
    command.args(arguments).env(PROBE, "1");
    command.env("SKIPPED_TESTS", file).env("CI", ci);
    command.output().expect("runs")
}

/// The output of `make test` at its end.
fn summary_of(file: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new("make");
    // Variables of an enclosing make.
    for variable in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL"] {
        command.env_remove(variable);
    }
    command.arg("-s").arg("-C").arg(root);
    command.arg("skipped-tests");
    let file = format!("SKIPPED_TESTS={}", file.display());
    let output = command.arg(file).output().expect("runs make");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("is text")
}
