#!/bin/sh
# Checks an OCI layout of components: check.sh LAYOUT WASH. Then pushes it to a registry on this machine as a release does, and has
# wasmCloud's wash pull it: what it gets is what was released. `make oci-check` calls it.
set -eu
layout=$(realpath "$1") wash=$2 here=$(dirname "$(realpath "$0")")
fail() { echo "oci-check: $*" >&2; exit 1; }
artifacts=$(python3 "$here/layout.py" "$layout")

work=$(mktemp -d)
registry=
trap 'test -z "$registry" || kill "$registry" 2> /dev/null; rm -rf "$work"' EXIT
cat > "$work/config.yml" <<YAML
version: 0.1
log: {level: info, formatter: json}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: "127.0.0.1:0"}
YAML
docker-registry serve "$work/config.yml" > "$work/log" 2>&1 &
registry=$!
tries=0
until address=$(grep -o 'listening on 127.0.0.1:[1-9][0-9]*' "$work/log"); do
  tries=$((tries + 1)) && test "$tries" -lt 100 || fail "the registry does not listen: $(cat "$work/log")"
  sleep 0.1
done
address=${address#listening on }

"$here/../../deploy/oci/push.sh" "$layout" "$address/alldata" --dest-tls-verify=false
echo "$artifacts" | while read -r name digest; do
  HOME=$work "$wash" --non-interactive oci pull --insecure "$address/alldata/$name" "$work/pulled.wasm" > "$work/pull" 2>&1 ||
    fail "wash cannot pull $name: $(cat "$work/pull")"
  test "sha256:$(sha256sum < "$work/pulled.wasm" | cut -d' ' -f1)" = "$digest" || fail "wash pulled another $name"
  rm "$work/pulled.wasm"
done
echo "oci-check: passed"
