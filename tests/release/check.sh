#!/bin/sh
# Checks how a release is published: a failure before the end leaves no release that can be seen. Stand-ins of gh and skopeo record their
# calls, and one of them fails. Needs neither a network nor an account. `make publish-check` calls it.
set -eu
root=$(realpath "$(dirname "$0")/../..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "publish-check: $*" >&2; cat "$work/out" "$work/calls" >&2; exit 1; }

# A tree with the scripts, a section of the changelog and the files of a release.
mkdir -p "$work/tree/deploy" "$work/tree/dist" "$work/tree/oci" "$work/bin"
cp -R "$root/deploy/oci" "$root/deploy/release" "$work/tree/deploy/"
cd "$work/tree"
printf 'component' > dist/peer.wasm
echo 'program' > dist/alldata-peer.tar.gz
digest=$(cd dist && sha256sum peer.wasm)
changelog() { printf '## Unreleased\n\n## 1.2.3 - 2026-11-27\n\nThe notes.\n\n%s\n\n## 1.2.2\n\nOlder.\n' "$1" > CHANGELOG.md; }
index() {
  ref='"annotations":{"org.opencontainers.image.ref.name"'
  printf '{"manifests":[{%s:"peer:1.2.3"}},{%s:"peer-forward:1.2.3"}}]}' "$ref" "$ref" > oci/index.json
}
# Each call is a line. FAILING is a part of the line of the call that fails, DRAFT what `gh release view` tells.
cat > "$work/bin/gh" <<'SH'
#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
case "$*" in *"$FAILING"*) exit 1 ;; esac
case "$*" in
"release view"*) test "$DRAFT" != none || exit 1; echo "$DRAFT" ;;
"release create"*) for last; do :; done; while test "$1" != --notes-file; do shift; done; cp "$2" "$CALLS.notes" ;;
esac
SH
chmod +x "$work/bin/gh" && cp "$work/bin/gh" "$work/bin/skopeo"

publish() {
  : > "$work/calls"
  PATH="$work/bin:$PATH" CALLS=$work/calls FAILING=${1:-none of them} DRAFT=${2:-none} \
    deploy/release/publish.sh v1.2.3 dist oci registry.invalid/alldata > "$work/out" 2>&1
}
called() { grep -qF -- "$1" "$work/calls"; }
PUBLISHED='--draft=false'
refuses() { called "$PUBLISHED" && fail "$1: it was published"; ! called '/peer:' || test "${2:-}" = pushed || fail "$1: it was pushed"; }

changelog "$digest" && index
publish || fail "it fails"
grep -v 'release view' "$work/calls" | cut -d' ' -f1-3 > "$work/order"
printf '%s\n' 'gh release create' 'skopeo copy --quiet' 'skopeo copy --quiet' 'gh release edit' > "$work/expected"
cmp -s "$work/order" "$work/expected" || fail "the calls come in another order"
called 'release create v1.2.3 --draft --verify-tag' || fail "the release is no draft while artifacts are pushed"
called 'docker://registry.invalid/alldata/peer-forward:1.2.3' || fail "an artifact is not pushed"
(cd dist && sha256sum --check --strict --quiet SHA256SUMS) || fail "the digests of the files"
test "$(head -n 1 "$work/calls.notes")" = '## 1.2.3 - 2026-11-27' || fail "other notes"
! grep -q Older "$work/calls.notes" || fail "the notes have another section"

publish 'peer-forward:1.2.3' && fail "a push that fails is no failure"
refuses "a push failed" pushed
publish 'release create' && fail "a draft that fails is no failure"
refuses "there is no draft"
publish 'none of them' true || fail "it can't be run again"
called 'release delete v1.2.3' || fail "the draft of the run before stays"
publish 'none of them' false && fail "it publishes a release again"
refuses "it is published"
called 'release delete' && fail "it deletes a release"

printf '{"manifests":[{' > oci/index.json
publish && fail "a broken index is no failure"
refuses "the index is broken"
printf '{"manifests":[]}' > oci/index.json
publish && fail "an empty index is no failure"
refuses "the index is empty"
index

changelog 'no digest'
publish && fail "a digest that is not in the changelog is no failure"
refuses "a digest is missing"
changelog "$digest" && sed -i 's/1\.2\.3/1.3.0/' CHANGELOG.md
publish && fail "a release without notes is no failure"
refuses "there are no notes"
changelog "$digest" && rm dist/peer.wasm
publish && fail "a release without components is no failure"
refuses "there are no components"
echo 'publish-check: passed'
