#!/bin/sh
# Checks the packages for the Rust registry: check.sh DIRECTORY. Unpacks them in an empty folder, without a workspace, the guest or a
# compiler for WebAssembly; builds them, and runs their tests and the program. The packages are in DIRECTORY. `make package-check` calls it.
# CARGO_FLAGS are further flags of cargo.
set -eu
packages=$(realpath "$1")
fail() { echo "package-check: $*" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for package in "$packages"/*.crate; do tar -C "$work" -xzf "$package"; done
protocol=$(echo "$work"/alldata-peer-protocol-*) host=$(echo "$work"/alldata-peer-server-http-*)
for file in Cargo.toml README.md LICENSE src/lib.rs; do
  test -s "$protocol/$file" || fail "the protocol has no $file"
  test -s "$host/$file" || fail "the server has no $file"
done
for file in peer forward directory keyvalue-spin keyvalue-wasmcloud peer-wasi-0.3 forward-wasi-0.3 directory-wasi-0.3; do
  test -s "$host/components/$file.wasm" || fail "the server has no component $file"
done
# The registry takes 10 MB.
test "$(wc -c < "$(ls "$packages"/alldata-peer-server-http-*.crate)")" -lt 10000000 || fail "the package is too large"
# The protocol is not in the registry before the release.
patch="patch.crates-io.alldata-peer-protocol.path='$protocol'"
# The profile of the repository: an engine that is not optimized would take many minutes for the tests, and with the same profile
# the dependencies that the repository built are reused.
run() {
  (
    cd "$1" && shift && cargo "$@" ${CARGO_FLAGS:-} --config "$patch" --config 'profile.dev.debug="line-tables-only"' \
      --config "profile.dev.package.'*'.opt-level=1" --config "profile.dev.package.'*'.debug=false"
  )
}
run "$protocol" test --quiet
run "$host" test --quiet
program=$(run "$host" build --message-format json |
  sed -n 's/.*"kind":\["bin"\].*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
"$program" component -o "$work/peer.wasm"
cmp "$work/peer.wasm" "$host/components/peer.wasm" || fail "the component is another one"
"$program" --version
echo "package-check: passed"
