#!/bin/sh
# Publishes a release: publish.sh TAG DIST LAYOUT REPOSITORY. The files of DIST become a draft of the release, the artifacts of the OCI
# layout are pushed to REPOSITORY, and then the draft is published: whatever fails, there is no release without its artifacts. It may be
# run again after a failure. Needs gh and skopeo, both logged in. The workflow of a release calls it.
set -eu
tag=$1 dist=$2 layout=$3 repository=$4
version=${tag#v} here=$(dirname "$(realpath "$0")")
fail() { echo "publish: $*" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The notes are the section of CHANGELOG.md.
awk -v version="$version" '/^## /{is_this = index($0, "## [" version "]") || index($0, "## " version)} is_this' \
  "$here/../../CHANGELOG.md" > "$work/notes"
test -s "$work/notes" || fail "CHANGELOG.md has no section for $version"
# The digests that it promises are those of the files. A pipe would hide that there are none.
(cd "$dist" && sha256sum -- *.wasm) > "$work/digests"
while read -r line; do
  grep -qF -- "$line" "$work/notes" || fail "CHANGELOG.md does not have: $line"
done < "$work/digests"
(cd "$dist" && rm -f SHA256SUMS && sha256sum -- *) > "$work/SHA256SUMS"
mv "$work/SHA256SUMS" "$dist/SHA256SUMS"

# A run that failed left its draft. Nobody has seen it, and its files may be others.
is_draft=$(gh release view "$tag" --json isDraft --jq .isDraft 2> /dev/null) || is_draft=none
case $is_draft in
none) ;;
true) gh release delete "$tag" --yes ;;
*) fail "$tag is published already" ;;
esac
gh release create "$tag" --draft --verify-tag --title "$version" --notes-file "$work/notes" "$dist"/*
"$here/../oci/push.sh" "$layout" "$repository"
gh release edit "$tag" --draft=false
