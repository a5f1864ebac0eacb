#!/bin/sh
# Serves a component with the sink `directory`, as the README says, and puts an event: serve.sh WASMTIME COMPONENT.
set -eu
wasmtime=$1 component=$2
work=$(mktemp -d)
mkdir "$work/events"
"$wasmtime" serve -S cli --addr 127.0.0.1:0 --dir "$work/events::/events" --env ALLDATA_PEER_DIRECTORY=/events \
  "$component" > "$work/log" 2>&1 &
server=$!
trap 'kill "$server" 2> /dev/null || true; rm -rf "$work"' EXIT
fail() { echo "serve: $*" >&2; cat "$work/log" >&2; exit 1; }

tries=0
until url=$(grep -o 'http://127.0.0.1:[0-9]*' "$work/log"); do
  tries=$((tries + 1)) && test "$tries" -lt 300 || fail "it does not listen"
  sleep 0.2
done
put() {
  curl --silent --output /dev/null --write-out '%{http_code}' --max-time 60 --data "{\"key\":\"key1\",\"event\":$1}" \
    "${url}/_put" || true
}
code=$(put '{"customer":1}') && test "$code" = 201 || fail "the put got $code"
code=$(put '{"customer":2}') && test "$code" = 409 || fail "another event under its key got $code"
grep -qr customer "$work/events" || fail "the event is not in the directory"
echo "serve: $component answers with $("$wasmtime" --version)"
