//! Builds the guest and, for the program, the sinks, has `guest/encoder` encode them as components and hands
//! them to the host in `OUT_DIR/components`.
//!
//! They are built for `wasm32-unknown-unknown`: with the active toolchain's own library of that
//! target where it is installed, else from library source beside a compiler. Never downloads a
//! toolchain. `ALLDATA_PEER_BUILD_COMPONENTS` names a directory of ready components instead, and a package
//! of the registry has them in `components`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use build::nested_cargo::{
    STD_FEATURES, UNSTABLE, nested_cargo, nested_target, run, write_profile,
};
use build::toolchain::{Toolchain, find_linker, rustc_version};

mod build {
    pub(super) mod nested_cargo;
    pub(super) mod toolchain;
}

const TARGET: &str = "wasm32-unknown-unknown";
const ENCODER: &str = "alldata-peer-component-encoder";
const READY_COMPONENTS: &str = "ALLDATA_PEER_BUILD_COMPONENTS";

/// The package of a component with its features, and the file that it goes to.
type Source = (&'static str, &'static str, &'static str);

/// The guest.
const GUEST: Source = ("alldata-peer-guest", "", "peer.wasm");

/// The sinks, and what is made for WASI 0.3: only the program needs them.
const OF_PROGRAM: [Source; 7] = [
    ("alldata-peer-sink-forward", "", "forward.wasm"),
    ("alldata-peer-sink-directory", "", "directory.wasm"),
    ("alldata-peer-sink-keyvalue-spin", "", "keyvalue-spin.wasm"),
    (
        "alldata-peer-sink-keyvalue-wasmcloud",
        "",
        "keyvalue-wasmcloud.wasm",
    ),
    ("alldata-peer-guest-wasi-0-3", "", "peer-wasi-0.3.wasm"),
    (
        "alldata-peer-sink-forward",
        "wasi-0-3",
        "forward-wasi-0.3.wasm",
    ),
    (
        "alldata-peer-sink-directory",
        "wasi-0-3",
        "directory-wasi-0.3.wasm",
    ),
];

/// The directory of the guest, which is in the repository only, and that of ready components, which is in packages only.
const GUEST_DIRECTORY: &str = "guest/peer";
const PACKED_COMPONENTS: &str = "components";

/// The version information of the program, as variables for `env!`.
const COMMIT: &str = "BUILD_COMMIT";
const WASMTIME: &str = "BUILD_WASMTIME";

/// The address of the source code in the metadata of compositions, where there is one.
const SOURCE_URL: &str = "BUILD_SOURCE_URL";

/// The variable that sets the commit where there is no git.
const GIVEN_COMMIT: &str = "ALLDATA_PEER_BUILD_COMMIT";

/// The length of a commit in the version.
const SHORT_COMMIT: &str = "--short=12";
const SHORT_COMMIT_DIGITS: usize = 12;

/// What stands for version information that this build does not have.
const UNKNOWN: &str = "unknown";

/// What they are built from, below the root of the workspace. Not all of `guest`: fuzzers write there.
const SOURCES: [&str; 9] = [
    "guest/encoder",
    "guest/freestanding",
    "guest/peer",
    "guest/peer-wasi-0.3",
    "guest/protocol",
    "guest/sinks",
    "wit",
    "Cargo.toml",
    "Cargo.lock",
];

/// The stack of a component, in bytes: nothing in them recurses. The linker's own choice of a
/// megabyte would be most of what an instance has to be given and to be cleared of.
const STACK: &str = "link-arg=-zstack-size=65536";

/// The memory that a component starts with, in bytes: enough for a small event, since growing costs
/// an instance more than having it from the beginning.
const MEMORY: &str = "link-arg=--initial-memory=262144";

/// The flags of the compiler for components, instead of any that the user has set for other programs. Vector
/// instructions are part of WebAssembly 2.0. Without them a long event takes the decoder more than twice
/// as long.
const GUEST_RUSTFLAGS: &str = "-Ctarget-feature=+simd128";

/// The variable that sets the linker of components.
const LINKER: &str = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER";

fn main() {
    let components = PathBuf::from(variable("OUT_DIR")).join("components");
    if let Err(error) = fs::create_dir_all(&components) {
        fail(&format!("cannot create {}: {error}", components.display()));
    }
    println!("cargo::rerun-if-changed=build.rs");
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let root = package.join("..");
    let is_packed = !root.join(GUEST_DIRECTORY).is_dir();
    describe_version(if is_packed { &package } else { &root }, is_packed);
    println!("cargo::rerun-if-env-changed={READY_COMPONENTS}");
    let of_program: &[_] = match env::var_os("CARGO_FEATURE_CLI") {
        Some(_) => &OF_PROGRAM,
        None => &[],
    };
    let wanted = std::iter::once(&GUEST).chain(of_program);
    let packed = is_packed.then(|| package.join(PACKED_COMPONENTS).into());
    if let Some(ready) = env::var_os(READY_COMPONENTS).or(packed) {
        for (_, _, file) in wanted {
            copy(&Path::new(&ready).join(file), &components.join(file));
        }
        return;
    }
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let toolchain = Toolchain::find();
    let (profile, encoder) = (write_profile(&root), build_encoder(&root));
    for (package, features, file) in wanted {
        let module = build(&root, &toolchain, &profile, package, features);
        encode(&encoder, &toolchain, &module, &components.join(file));
    }
}

/// Passes the commit and the version of wasmtime to the program. The commit is in release builds only, so that a
/// commit is no reason to build again while developing. `ALLDATA_PEER_BUILD_COMMIT` sets it where there is no git.
fn describe_version(root: &Path, is_packed: bool) {
    if let Some(url) = source_url() {
        println!("cargo::rustc-env={SOURCE_URL}={url}");
    }
    println!("cargo::rerun-if-env-changed={GIVEN_COMMIT}");
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = env::var(GIVEN_COMMIT).ok().or_else(|| {
        let head = git(root, &["rev-parse", "--git-path", "logs/HEAD"]).filter(|_| is_release)?;
        let head = root.join(head);
        // Each commit and each checkout is appended to it. A missing file would have this run always.
        if head.is_file() {
            println!("cargo::rerun-if-changed={}", head.display());
        }
        git(root, &["rev-parse", SHORT_COMMIT, "HEAD"])
    });
    let commit = commit.or_else(|| packed_commit(root));
    println!(
        "cargo::rustc-env={COMMIT}={}",
        commit.as_deref().unwrap_or(UNKNOWN)
    );
    let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
    let package = "[[package]]\nname = \"wasmtime\"\nversion = \"";
    // A package may be built with other versions than those of its lock file.
    let version = lock
        .split_once(package)
        .and_then(|(_, rest)| rest.split('"').next())
        .filter(|_| !is_packed);
    println!("cargo::rustc-env={WASMTIME}={}", version.unwrap_or(UNKNOWN));
}

/// The commit that a package of the registry was made of, which cargo writes into it.
fn packed_commit(package: &Path) -> Option<String> {
    let text = fs::read_to_string(package.join(".cargo_vcs_info.json")).ok()?;
    let (_, rest) = text.split_once("\"sha1\": \"")?;
    rest.get(..SHORT_COMMIT_DIGITS).map(str::to_owned)
}

/// What git prints, if it is there and `root` is a repository of its own.
fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let run = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(root)
            .args(arguments)
            .output();
        let output = output.ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    // A tarball may be unpacked in another repository.
    let is_root = run(&["rev-parse", "--show-prefix"])?.trim().is_empty();
    is_root
        .then(|| run(arguments))?
        .map(|text| text.trim().to_owned())
}

fn copy(from: &Path, to: &Path) {
    println!("cargo::rerun-if-changed={}", from.display());
    if let Err(error) = fs::copy(from, to) {
        fail(&format!("cannot copy {}: {error}", from.display()));
    }
}

/// Builds the module of a package.
fn build(
    root: &Path,
    toolchain: &Toolchain,
    profile: &Path,
    package: &str,
    features: &str,
) -> PathBuf {
    let mut cargo = nested_cargo(root, &toolchain.cargo, &toolchain.rustc);
    cargo
        .env("CARGO_ENCODED_RUSTFLAGS", GUEST_RUSTFLAGS)
        .args(["rustc", "--locked", "--package", package])
        .args(["--features", features])
        .arg("--config")
        .arg(profile)
        .args(["--profile", "guest", "--target", TARGET])
        .args(["--lib", "--crate-type", "cdylib"])
        .args(UNSTABLE.iter().flat_map(|setting| ["--config", setting]));
    if toolchain.build_std {
        cargo
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["-Zbuild-std=core,alloc", STD_FEATURES]);
    }
    // Always, so that it is not the linker of a configuration file.
    match find_linker() {
        Some(linker) => cargo.env(LINKER, linker),
        None => cargo.env_remove(LINKER),
    };
    cargo.args(["--", "-C", STACK, "-C", MEMORY]);
    run(cargo, &format!("building {package}"));
    nested_target()
        .join(TARGET)
        .join("guest")
        .join(format!("{}.wasm", package.replace('-', "_")))
}

/// Builds the encoder for this machine, by the compiler of the host. It is run without `cargo run`, which would run it by a
/// runner of the user's.
fn build_encoder(root: &Path) -> PathBuf {
    let host = variable("HOST");
    let mut cargo = nested_cargo(root, &variable("CARGO"), &variable("RUSTC"));
    cargo
        .args(["build", "--quiet", "--locked", "--package", ENCODER])
        .arg("--target")
        .arg(&host)
        // It takes a tenth of a second for a component as it is, and half of the time to be built.
        .args(["--config", "profile.dev.package.'*'.opt-level=0"]);
    run(cargo, &format!("building {ENCODER}"));
    let program = format!("{ENCODER}{}", env::consts::EXE_SUFFIX);
    nested_target().join(host).join("debug").join(program)
}

/// Encodes a module as the component of this file, with its metadata.
fn encode(encoder: &Path, toolchain: &Toolchain, module: &Path, component: &Path) {
    let file = component.file_stem().unwrap_or_default().to_string_lossy();
    let (name, description) = match file.strip_prefix("peer") {
        Some(rest) => (format!("alldata-peer{rest}"), "AllData peer"),
        None => (format!("alldata-sink-{file}"), "Sink of AllData peers"),
    };
    let text = |name| variable(name).to_string_lossy().into_owned();
    let mut command = Command::new(encoder);
    command
        .args([module, component])
        .args([&name, &rustc_version(&toolchain.rustc)])
        .arg(format!("version={}", text("CARGO_PKG_VERSION")))
        .arg(format!("licenses={}", text("CARGO_PKG_LICENSE")))
        .arg(format!("homepage={}", text("CARGO_PKG_HOMEPAGE")))
        .args(source_url().map(|url| format!("source={url}")))
        .arg(format!("description={description}"));
    run(command, &format!("encoding {}", module.display()));
}

/// The repository of the package, if it has one: the homepage is that of AllData, which is not where this source is.
fn source_url() -> Option<String> {
    env::var("CARGO_PKG_REPOSITORY")
        .ok()
        .filter(|url| !url.is_empty())
}

fn variable(name: &str) -> OsString {
    env::var_os(name).unwrap_or_else(|| fail(&format!("cargo did not set {name}")))
}

/// Ends the build with one message, without a backtrace.
fn fail(message: &str) -> ! {
    for line in message.lines() {
        println!("cargo::error={line}");
    }
    std::process::exit(1)
}
