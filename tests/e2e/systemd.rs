//! The units for systemd in `deploy/`, by systemd's own check.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::can_make;

#[test]
fn units_are_valid() {
    let missing = Command::new("systemd-analyze").arg("--version").output();
    let missing = missing
        .err()
        .map(|error| format!("systemd-analyze: {error}"));
    if !can_make("a check of the units", missing.as_deref()) {
        return;
    }
    let units = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/systemd"));
    let directory = tempfile::tempdir().expect("makes a directory");
    let mut paths = Vec::new();
    for name in ["alldata-peer.service", "alldata-peer.socket"] {
        let unit = fs::read_to_string(units.join(name)).expect("reads");
        // The check wants the program to be there.
        let unit = unit.replace(
            "/usr/local/bin/alldata-peer",
            env!("CARGO_BIN_EXE_alldata-peer"),
        );
        paths.push(directory.path().join(name));
        fs::write(paths.last().expect("was added"), unit).expect("writes");
    }
    let output = Command::new("systemd-analyze")
        .arg("verify")
        .args(&paths)
        .output();
    let output = output.expect("runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr, "");
}

/// The exposure of the service that systemd computes, in tenths: 0 is best, 100 worst.
const MAX_EXPOSURE: &str = "15";

#[test]
fn service_is_hardened() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../deploy/systemd/alldata-peer.service"
    );
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold", MAX_EXPOSURE])
        .arg(path)
        .output();
    let missing = output.as_ref().err();
    let missing = missing.map(|error| format!("systemd-analyze: {error}"));
    if can_make("a check of the sandbox", missing.as_deref()) {
        let output = output.expect("is there");
        assert!(output.status.success(), "{output:?}");
    }
}

/// A user of `DynamicUser=` has another number each time, and could read no private file.
#[test]
fn user_of_service_is_made_by_sysusers() {
    let units = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/systemd"));
    let unit = fs::read_to_string(units.join("alldata-peer.service")).expect("reads");
    let user = unit.lines().find_map(|line| line.strip_prefix("User="));
    let user = user.expect("has a user");
    assert!(!unit.contains("\nDynamicUser=yes"), "{unit}");
    let path = units.join("alldata-peer.sysusers");
    let users = fs::read_to_string(&path).expect("reads");
    assert!(users.contains(&format!("\nu {user} - ")), "{users}");
    let output = Command::new("systemd-sysusers")
        .args(["--dry-run", "--root"])
        .arg(tempfile::tempdir().expect("makes a directory").path())
        .arg(&path)
        .output();
    let missing = output
        .as_ref()
        .err()
        .map(|error| format!("systemd-sysusers: {error}"));
    if can_make("a check of the users", missing.as_deref()) {
        let output = output.expect("is there");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && stderr.contains(user),
            "{output:?}"
        );
    }
}

/// The commands of the service are those of the program.
#[test]
fn command_of_service_is_valid() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../deploy/systemd/alldata-peer.service"
    );
    let unit = fs::read_to_string(path).expect("reads");
    let command = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let command = command
        .expect("has a command")
        .replace("/etc/alldata-peer", "../deploy");
    let arguments = command.split(' ').skip(1);
    let output = Command::new(env!("CARGO_BIN_EXE_alldata-peer"))
        .args(arguments)
        .args(["--check", "--sink=memory:"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("runs");
    assert!(output.status.success(), "{output:?}");
}
