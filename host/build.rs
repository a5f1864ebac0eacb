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

/// The address of the source code in the metadata of components.
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

/// Where Debian's packages `rustc-web` and `cargo-web` put their programs.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

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

/// Names under which the linker of LLVM stands on the path, as Debian and others install it.
const LINKERS: [&str; 4] = ["rust-lld", "wasm-ld", "wasm-ld-19", "wasm-ld-16"];

const HOW_TO_MEND: &str = "\
no compiler here can build for wasm32-unknown-unknown. Either of these mends it:
  with rustup:  rustup target add wasm32-unknown-unknown
  on Debian:    apt-get install --no-install-recommends rustc-web cargo-web rust-web-src
Or set ALLDATA_PEER_BUILD_COMPONENTS to a directory of components that were built elsewhere:
peer.wasm, and for the program forward.wasm, directory.wasm, keyvalue-spin.wasm,
keyvalue-wasmcloud.wasm, peer-wasi-0.3.wasm, forward-wasi-0.3.wasm and directory-wasi-0.3.wasm,
as such a build leaves them in target.";

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
    for (package, features, file) in wanted {
        let module = build(&root, &toolchain, package, features);
        encode(&root, &toolchain, &module, &components.join(file));
    }
}

/// Passes the commit and the version of wasmtime to the program. The commit is in release builds only, so that a
/// commit is no reason to build again while developing. `ALLDATA_PEER_BUILD_COMMIT` sets it where there is no git.
fn describe_version(root: &Path, is_packed: bool) {
    println!("cargo::rustc-env={SOURCE_URL}={}", source_url());
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

/// A compiler that can build the guest.
struct Toolchain {
    cargo: OsString,
    rustc: OsString,
    /// Whether the target's library is built from source, because there is no built one.
    build_std: bool,
}

impl Toolchain {
    fn find() -> Self {
        let (cargo, rustc) = (variable("CARGO"), variable("RUSTC"));
        let candidates = [(cargo, rustc), (DEBIAN_CARGO.into(), DEBIAN_RUSTC.into())];
        for (cargo, rustc) in candidates {
            for build_std in [false, true] {
                if has_library(&rustc, build_std) {
                    return Self {
                        cargo,
                        rustc,
                        build_std,
                    };
                }
            }
        }
        fail(HOW_TO_MEND);
    }
}

fn has_library(rustc: &OsString, source: bool) -> bool {
    let directory = if source {
        print(rustc, &["--print", "sysroot"])
            .map(|sysroot| sysroot.join("lib/rustlib/src/rust/library/core/src"))
    } else {
        print(rustc, &["--print", "target-libdir", "--target", TARGET])
    };
    directory.is_some_and(|directory| directory.is_dir())
}

/// What a compiler prints, as a path. `None` where there is no such compiler.
fn print(rustc: &OsString, arguments: &[&str]) -> Option<PathBuf> {
    let output = Command::new(rustc).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}

/// Builds the module of a package.
fn build(root: &Path, toolchain: &Toolchain, package: &str, features: &str) -> PathBuf {
    let mut cargo = nested_cargo(root, &toolchain.cargo, &toolchain.rustc);
    cargo
        .env("CARGO_ENCODED_RUSTFLAGS", GUEST_RUSTFLAGS)
        .args(["rustc", "--locked", "--package", package])
        .args(["--features", features])
        .args(["--profile", "guest", "--target", TARGET])
        .args(["--lib", "--crate-type", "cdylib"]);
    if toolchain.build_std {
        cargo
            .env("RUSTC_BOOTSTRAP", "1")
            .arg("-Zbuild-std=core,alloc");
        if let Some(linker) = find_linker() {
            cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
    }
    cargo.args(["--", "-C", STACK, "-C", MEMORY]);
    run(cargo, &format!("building {package}"));
    nested_target()
        .join(TARGET)
        .join("guest")
        .join(format!("{}.wasm", package.replace('-', "_")))
}

/// A cargo of its own, with a target directory of its own, so that it neither waits for the lock of the outer run nor
/// inherits its flags and wrappers.
fn nested_cargo(root: &Path, program: &OsString, rustc: &OsString) -> Command {
    let mut cargo = Command::new(program);
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_ENCODED") || name.starts_with("RUSTC") || name == "RUSTFLAGS" {
            cargo.env_remove(&*name);
        }
    }
    cargo
        .current_dir(root)
        .env("RUSTC", rustc)
        .env("CARGO_TARGET_DIR", nested_target());
    cargo
}

fn nested_target() -> PathBuf {
    PathBuf::from(variable("OUT_DIR")).join("guest")
}

fn run(mut cargo: Command, task: &str) {
    match cargo.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("{task} ended with {status}")),
        Err(error) => fail(&format!(
            "cannot run {}: {error}",
            cargo.get_program().display()
        )),
    }
}

/// The active toolchain's own linker, or LLVM's on the path.
fn find_linker() -> Option<PathBuf> {
    let sysroot = print(&variable("RUSTC"), &["--print", "sysroot"])?;
    let own = sysroot
        .join("lib/rustlib")
        .join(variable("HOST"))
        .join("bin/rust-lld");
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path =
        env::split_paths(&path).flat_map(|directory| LINKERS.map(|name| directory.join(name)));
    std::iter::once(own)
        .chain(on_path)
        .find(|linker| linker.is_file())
}

/// Encodes a module as the component of this file, with its metadata. The encoder is built for this machine, by the
/// compiler of the host.
fn encode(root: &Path, toolchain: &Toolchain, module: &Path, component: &Path) {
    let file = component.file_stem().unwrap_or_default().to_string_lossy();
    let (name, description) = match file.strip_prefix("peer") {
        Some(rest) => (format!("alldata-peer{rest}"), "AllData peer"),
        None => (format!("alldata-sink-{file}"), "Sink of AllData peers"),
    };
    let text = |name| variable(name).to_string_lossy().into_owned();
    let mut cargo = nested_cargo(root, &variable("CARGO"), &variable("RUSTC"));
    cargo
        .args(["run", "--quiet", "--locked", "--package", ENCODER])
        .args(["--target", &text("HOST")])
        // It takes a tenth of a second for a component as it is, and half of the time to be built.
        .args(["--config", "profile.dev.package.'*'.opt-level=0", "--"])
        .args([module, component])
        .args([&name, &rustc_version(&toolchain.rustc)])
        .arg(format!("version={}", text("CARGO_PKG_VERSION")))
        .arg(format!("licenses={}", text("CARGO_PKG_LICENSE")))
        .arg(format!("source={}", source_url()))
        .arg(format!("description={description}"));
    run(cargo, &format!("encoding {}", module.display()));
}

/// The number in `rustc 1.95.0 (59807616e 2026-04-14)`.
fn rustc_version(rustc: &OsString) -> String {
    let text = print(rustc, &["--version"]).unwrap_or_default();
    let text = text.to_string_lossy();
    text.split(' ').nth(1).unwrap_or(UNKNOWN).to_owned()
}

/// The repository of the package, or else its homepage.
fn source_url() -> String {
    ["CARGO_PKG_REPOSITORY", "CARGO_PKG_HOMEPAGE"]
        .iter()
        .find_map(|name| env::var(name).ok().filter(|url| !url.is_empty()))
        .unwrap_or_else(|| fail("the package has neither a repository nor a homepage"))
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
