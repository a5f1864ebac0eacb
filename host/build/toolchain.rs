//! Finds a compiler that can build for WebAssembly, and its linker. Never downloads one.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use crate::{TARGET, UNKNOWN, fail, variable};

/// Where Debian's packages `rustc-web` and `cargo-web` put their programs.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

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

/// A compiler that can build the guest.
pub(crate) struct Toolchain {
    pub(crate) cargo: OsString,
    pub(crate) rustc: OsString,
    /// Whether the target's library is built from source, because there is no built one.
    pub(crate) build_std: bool,
}

impl Toolchain {
    pub(crate) fn find() -> Self {
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

/// The active toolchain's own linker, or LLVM's on the path.
pub(crate) fn find_linker() -> Option<PathBuf> {
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

/// The number in `rustc 1.95.0 (59807616e 2026-04-14)`.
pub(crate) fn rustc_version(rustc: &OsString) -> String {
    let text = print(rustc, &["--version"]).unwrap_or_default();
    let text = text.to_string_lossy();
    text.split(' ').nth(1).unwrap_or(UNKNOWN).to_owned()
}
