//! Tests for which the machine lacks a tool: skipped by name where a person runs them, failed in CI.
//!
//! libtest has no result "skipped" for a running test: it counts as passed there.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

/// The environment variable with the file that skipped tests are appended to. `make test` prints it.
const SKIPPED_TESTS: &str = "SKIPPED_TESTS";

/// Whether the tools of a test are there. If not, for this reason, the test is skipped: it is reported by name,
/// and has to return. If `CI` is set, it fails instead.
#[track_caller]
pub fn can_make(fault: &str, reason: Option<&str>) -> bool {
    let Some(reason) = reason else { return true };
    assert!(!is_ci(), "{fault}: {reason}");
    let thread = thread::current();
    // With a single test thread, that is the main thread, which does not have the name of the test.
    let test = thread.name().filter(|name| *name != "main");
    report(&match test {
        Some(test) => format!("{test} ({fault}): {reason}\n"),
        None => format!("{fault}: {reason}\n"),
    });
    false
}

/// Why strace can't be used, if it can't.
pub fn no_strace() -> Option<&'static str> {
    let mut strace = Command::new("strace");
    let strace = strace.args(["-qq", "true"]).stderr(Stdio::null()).status();
    let can = strace.is_ok_and(|status| status.success());
    (!can).then_some("there is no strace that may trace: sudo apt-get install strace")
}

/// Whether this is a run of continuous integration, as its services indicate.
fn is_ci() -> bool {
    env::var("CI").is_ok_and(|value| !["", "0", "false"].contains(&value.as_str()))
}

#[expect(clippy::print_stdout, reason = "it is for whoever runs the tests")]
fn report(line: &str) {
    print!("skipped: {line}");
    let Some(path) = env::var_os(SKIPPED_TESTS) else {
        return;
    };
    let mut file = OpenOptions::new();
    let file = file.create(true).append(true).open(path);
    // A single write, so that lines of other processes are not interleaved.
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    written.expect("the skipped test is written down");
}
