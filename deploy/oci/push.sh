#!/bin/sh
# Pushes each artifact of an OCI layout: push.sh LAYOUT REPOSITORY [FLAG…], to REPOSITORY/NAME:VERSION. Flags are those of `skopeo copy`.
set -eu
layout=$1 repository=$2
shift 2
# All names are read before anything is pushed. In a pipe, the shell would not notice that this failed.
names=$(python3 -c '
import json, sys
for manifest in json.load(sys.stdin)["manifests"]:
    print(manifest["annotations"]["org.opencontainers.image.ref.name"])
' < "$layout/index.json")
test -n "$names" || { echo "push: $layout has no artifacts" >&2; exit 1; }
for name in $names; do
  skopeo copy --quiet --preserve-digests "$@" "oci:$layout:$name" "docker://$repository/$name"
  echo "pushed $repository/$name"
done
