#!/bin/sh
# Builds the components in two clones of HEAD, in folders with names of different lengths, and compares them: reproducible.sh [DIST]. With
# DIST, also with the components there that are not composed. Runs the build script of the host by itself, which needs nothing else to be
# built. The second clone is built with settings of cargo, by environment and by a configuration file, that would change the components or
# break their build. `make reproducible` calls it.
set -eu
root=$(git rev-parse --show-toplevel) dist=${1:-}
test -z "$dist" || dist=$(realpath "$dist")
fail() { echo "reproducible: $*" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Sets the variables that cargo gives to a build script, and those that follow the name of the clone.
build() {
  out=$work/$1-out clone=$work/$1
  shift
  mkdir -p "$out"
  git clone --quiet --no-hardlinks "$root" "$clone"
  git -C "$clone" checkout --quiet "$(git -C "$root" rev-parse HEAD)"
  (
    cd "$clone"
    rustc --edition 2024 host/build.rs -o "$out/build-script"
    package=$(cargo metadata --locked --no-deps --format-version 1)
    field() {
      echo "$package" | python3 -c 'import json, sys
packages = json.load(sys.stdin)["packages"]
print(next(p for p in packages if p["name"] == "alldata-peer-server-http").get(sys.argv[1]) or "")' "$1"
    }
    env CARGO=cargo RUSTC=rustc HOST="$(rustc -vV | sed -n 's/^host: //p')" OUT_DIR="$out" CARGO_MANIFEST_DIR="$clone/host" \
      CARGO_FEATURE_CLI=1 PROFILE=debug CARGO_PKG_VERSION="$(field version)" CARGO_PKG_LICENSE="$(field license)" \
      CARGO_PKG_REPOSITORY="$(field repository)" CARGO_PKG_HOMEPAGE="$(field homepage)" "$@" \
      "$out/build-script" > "$out/log" 2>&1 || fail "the build failed: $(cat "$out/log")"
  )
  (cd "$out/components" && sha256sum -- *.wasm) > "$out/digests"
}

build one
# Cargo reads the configuration of the folders above a clone, as it does that of the user.
mkdir -p "$work/another-clone/.cargo"
cat > "$work/another-clone/.cargo/config.toml" <<TOML
[build]
rustc-wrapper = "false"
rustflags = ["-Coverflow-checks=yes"]
build-dir = "$work/another-build"
[profile.release]
codegen-units = 16
debug = 2
debug-assertions = true
incremental = true
lto = "off"
overflow-checks = true
[profile.release.package.serde_json]
opt-level = 0
[profile.guest.package."*"]
opt-level = 0
[target.wasm32-unknown-unknown]
linker = "false"
rustflags = ["-Cdebug-assertions=yes"]
[target.'cfg(all())']
runner = "false"
[unstable]
build-std-features = ["optimize_for_size"]
TOML
build another-clone/in-a-folder-with-a-longer-name CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true \
  CARGO_PROFILE_GUEST_OPT_LEVEL=3 CARGO_PROFILE_GUEST_PACKAGE_ARRAYVEC_OPT_LEVEL=0 CARGO_INCREMENTAL=1 CARGO_BUILD_RUSTC_WRAPPER=false \
  RUSTFLAGS=-Ccodegen-units=16 CARGO_BUILD_TARGET=none CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=false \
  "CARGO_TARGET_$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')_RUNNER=false"
one=$work/one-out another=$work/another-clone/in-a-folder-with-a-longer-name-out
cat "$one/digests"
test "$(wc -l < "$one/digests")" = 8 || fail "these are not all components"
diff "$one/digests" "$another/digests" || fail "the components of the second clone are others"
if test -n "$dist"; then
  for file in peer peer-wasi-0.3; do
    cmp "$dist/$file.wasm" "$one/components/$file.wasm" || fail "$file.wasm is not that of $dist"
  done
fi
echo 'reproducible: both clones have the same components'
