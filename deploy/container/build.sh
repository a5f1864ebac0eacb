#!/bin/sh
# Builds the image of a program: build.sh PROGRAM DIRECTORY VERSION [REVISION]. Writes DIRECTORY/alldata-peer.tar for `docker load` and
# `podman load`, and an OCI layout in DIRECTORY/oci. Needs buildah, no network; `make image` calls it.
set -eu
program=$(realpath "$1") version=$3 revision=${4:-unknown}
mkdir -p "$2" && directory=$(realpath "$2") here=$(dirname "$(realpath "$0")")
"$here/root.sh" "$program" "$directory/context"
# A store of its own, with a driver that needs no privileges.
engine() { buildah --storage-driver vfs --root "$directory/storage" --runroot "$directory/run" "$@"; }
trap 'rm -rf "$directory/storage" "$directory/run" "$directory/context"' EXIT
rm -rf "$directory/oci" "$directory/alldata-peer.tar"
field() { sed -n "s/^$1 = \"\(.*\)\"/\1/p" "$here/../../$2"; }
# Before the first release there is no public source: RELEASING.md.
source=$(field repository host/Cargo.toml)
engine build --quiet --isolation chroot --format docker --file "$here/Containerfile" --tag alldata-peer \
  --label org.opencontainers.image.title=alldata-peer \
  --label 'org.opencontainers.image.description=AllData peer server' \
  --label org.opencontainers.image.licenses=MIT \
  --label "org.opencontainers.image.url=$(field homepage Cargo.toml)" \
  ${source:+--label "org.opencontainers.image.source=$source"} \
  --label "org.opencontainers.image.version=$version" \
  --label "org.opencontainers.image.revision=$revision" "$directory/context" > /dev/null
engine push --quiet --format v2s2 alldata-peer "docker-archive:$directory/alldata-peer.tar:alldata-peer:$version"
engine push --quiet --format oci alldata-peer "oci:$directory/oci:$version"
