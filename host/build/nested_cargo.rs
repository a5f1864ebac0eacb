//! Runs cargo for the components and their encoder. The settings of the user, by environment or by configuration
//! files, are for other programs: with them the same source would be another component.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{fail, variable};

/// The profile of components. Cargo gets it as configuration by `--config`, which wins over configuration files, so
/// each setting that a file could change is in it.
const PROFILE: &str = r#"[profile.guest]
inherits = "release"
incremental = false
lto = true
panic = "abort"
rpath = false
split-debuginfo = "off"
"#;

/// The settings that a profile has for each package by itself.
const OF_EACH_PACKAGE: &str = "\
codegen-units = 1
debug = false
debug-assertions = false
overflow-checks = false
strip = true
";

/// Components are optimized for size, except for the crates that decode each body. With level 3 these would be larger, and no
/// faster.
const OPT_LEVEL: &str = "opt-level = \"s\"\n";
const OPT_LEVEL_OF_FAST: &str = "opt-level = 2\n";
const FAST: [&str; 3] = ["alldata-peer-protocol", "dlmalloc", "simdutf8"];

/// Nightly settings of profiles, which `[unstable]` of a configuration file turns on where cargo takes them: it does
/// when it builds the library from source.
pub(crate) const UNSTABLE: [&str; 2] = [
    "unstable.codegen-backend=false",
    "unstable.profile-rustflags=false",
];

/// The features of that library which are cargo's own choice. As a flag, they win over `[unstable]`.
pub(crate) const STD_FEATURES: &str = "-Zbuild-std-features=panic-unwind,backtrace,default";

/// The variables that change what cargo builds, by the beginnings of their names, but for `KEPT`.
const SETTINGS: [&str; 8] = [
    "CARGO_BUILD_",
    "CARGO_ENCODED_",
    "CARGO_INCREMENTAL",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "CARGO_UNSTABLE_",
    "RUSTC",
    "RUSTFLAGS",
];

/// The number of processes, and the linker of this machine, without which the encoder may not link.
const KEPT: [&str; 2] = ["CARGO_BUILD_JOBS", "_LINKER"];

/// A cargo of its own, with a target directory of its own, so that it neither waits for the lock of the outer run nor
/// inherits its flags and wrappers.
pub(crate) fn nested_cargo(root: &Path, program: &OsString, rustc: &OsString) -> Command {
    let mut cargo = Command::new(program);
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let is_setting = SETTINGS.iter().any(|setting| name.starts_with(setting));
        if is_setting && !KEPT.iter().any(|kept| name.ends_with(kept)) {
            cargo.env_remove(&*name);
        }
    }
    cargo
        .current_dir(root)
        .env("RUSTC", rustc)
        // Empty is none, whatever a configuration file says.
        .env("RUSTC_WRAPPER", "")
        .env("RUSTC_WORKSPACE_WRAPPER", "")
        .env("CARGO_BUILD_BUILD_DIR", nested_target())
        .env("CARGO_TARGET_DIR", nested_target());
    cargo
}

pub(crate) fn nested_target() -> PathBuf {
    PathBuf::from(variable("OUT_DIR")).join("guest")
}

pub(crate) fn run(mut command: Command, task: &str) {
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("{task} ended with {status}")),
        Err(error) => fail(&format!(
            "cannot run {}: {error}",
            command.get_program().display()
        )),
    }
}

/// Writes the profile of components, and returns the path of its file. It names each package of the lock file,
/// since a setting for one package in a configuration file wins over a setting for all.
pub(crate) fn write_profile(root: &Path) -> PathBuf {
    let lock = root.join("Cargo.lock");
    let lock = fs::read_to_string(&lock)
        .unwrap_or_else(|error| fail(&format!("cannot read {}: {error}", lock.display())));
    let names = lock
        .lines()
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    let mut names: Vec<_> = names.chain(["*"]).collect();
    names.sort_unstable();
    names.dedup();
    let mut profile = format!("{PROFILE}{OPT_LEVEL}{OF_EACH_PACKAGE}");
    for name in names {
        let opt_level = match FAST.contains(&name) {
            true => OPT_LEVEL_OF_FAST,
            false => OPT_LEVEL,
        };
        profile += &format!("[profile.guest.package.\"{name}\"]\n{opt_level}{OF_EACH_PACKAGE}");
    }
    let file = PathBuf::from(variable("OUT_DIR")).join("guest-profile.toml");
    if let Err(error) = fs::write(&file, profile) {
        fail(&format!("cannot write {}: {error}", file.display()));
    }
    file
}
