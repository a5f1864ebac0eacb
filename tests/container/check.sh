#!/bin/sh
# Checks the image: check.sh DIRECTORY, with its OCI layout in DIRECTORY/oci. Unpacks it with umoci, and runs its root file system,
# read-only and without privileges, by bubblewrap: as the user of the image, without capabilities, in namespaces of its own but for the
# network. `make image-check` calls it.
set -eu
layout=$(realpath "$1")/oci
# 45 MB of compressed layers, since it is pulled over a network.
max_bytes=45000000
fail() { echo "image-check: $*" >&2; exit 1; }
value() { python3 -c 'import json,sys; print(json.load(sys.stdin)'"$1"')'; }

tag=$(value '["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"]' < "$layout/index.json")
bytes=$(cat "$layout"/blobs/sha256/* | wc -c)
test "$bytes" -lt "$max_bytes" || fail "the image has $bytes bytes"
# The user below may read it.
work=$(mktemp -d) && chmod 755 "$work"
server=
trap 'test -z "$server" || kill -KILL "$server" 2> /dev/null; rm -rf "$work"' EXIT
umoci unpack --rootless --image "$layout:$tag" "$work/bundle" > "$work/umoci" 2>&1 || fail "$(cat "$work/umoci")"
root=$work/bundle/rootfs
setting() { value "[\"process\"]$1" < "$work/bundle/config.json"; }
test "$(setting '["user"]["uid"]')" = 65532 || fail "the user is another one"
test "$(setting '["cwd"]')" = /data || fail "the working directory is another one"
setting '["env"]' | grep -q ALLDATA_PEER_ADMIN_LISTEN=127.0.0.1:9090 || fail "no listener for the health check"
test "$(setting '["args"]')" = "['/usr/local/bin/alldata-peer', 'serve']" || fail "another command"
test ! -e "$root/bin/sh" || fail "it has a shell"
# A new volume takes its owner. `umoci unpack --rootless` makes all files those of the caller.
for blob in "$layout"/blobs/sha256/*; do tar --numeric-owner -tvzf "$blob" 2> /dev/null || true; done |
  grep -q ' 65532/65532 .* data/$' || fail "the user does not own /data"
docker=$(dirname "$layout")/alldata-peer.tar
config=$(tar -xOf "$docker" manifest.json | value '[0]["Config"]')
tar -xOf "$docker" "$config" | value '["config"]["Healthcheck"]["Test"]' |
  grep -q "'CMD', '/usr/local/bin/alldata-peer', 'health', 'http://127.0.0.1:9090/readyz'" || fail "no health check"

mkdir "$work/data" && chmod 777 "$work/data"
nobody=
test "$(id -u)" != 0 || nobody='setpriv --reuid=65534 --regid=65534 --clear-groups'
chmod -R a+rX "$work/bundle" && chmod 755 "$work/bundle"
in_image() {
  $nobody bwrap --unshare-all --share-net --die-with-parent --as-pid-1 --uid 65532 --gid 65532 --cap-drop ALL --clearenv \
    --ro-bind "$root" / --dev /dev --proc /proc --bind "$work/data" /data --chdir /data \
    --setenv ALLDATA_PEER_ADMIN_LISTEN 127.0.0.1:0 /usr/local/bin/alldata-peer "$@"
}
in_image serve --hostname 127.0.0.1 --port 0 > "$work/out" 2> "$work/log" &
server=$!
tries=0
until grep -q '^listening on' "$work/out"; do
  tries=$((tries + 1)) && test "$tries" -lt 600 || fail "it does not listen: $(cat "$work/log")"
  sleep 0.1
done
url=$(sed -n 's/^listening on //p' "$work/out")
admin=$(sed -n 's|.*listening for operators.*\(http://[0-9.:]*\).*|\1|p' "$work/log")
in_image put key1 '"from the image"' --to "$url/_put"
in_image health "$admin/readyz"
! in_image health "$url/readyz" 2> /dev/null || fail "the port for puts tells its health"
# The program is process 1 of its namespace, and drains as such.
program=$server
while child=$(tr -d ' ' < "/proc/$program/task/$program/children") && test -n "$child"; do program=$child; done
grep -q '^Name:[[:space:]]*alldata-peer$' "/proc/$program/status" || fail "process $program is not the program"
grep -q '^CapEff:[[:space:]]*0*$' "/proc/$program/status" || fail "it has capabilities"
kill -TERM "$program"
wait "$server" || fail "it ended with $?: $(cat "$work/log")"
server=
test "$(in_image get key1)" = '"from the image"' || fail "the event is lost"
in_image verify > /dev/null
echo "image-check: passed, $bytes bytes"
