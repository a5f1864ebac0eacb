#!/bin/sh
# Makes the Debian package of a binary that was built before: build.sh BINARY DIRECTORY [VERSION]. Needs dpkg-dev and binutils,
# no network and no root. `make deb` calls it. DEB_FLAGS are further flags of dpkg-deb, such as `-Zgzip -z1` for a fast one.
set -eu
cd "$(dirname "$0")/../.."
binary=$1 output=$2
version=${3:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)}
architecture=$(dpkg --print-architecture)
# The same source makes the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
umask 022
place() { install -D -m "${3:-644}" "$1" "$root/$2"; }
text() { mkdir -p "$root/$(dirname "$1")" && cat > "$root/$1"; }
# Without the time and the name in it.
zip() { gzip -9n "$root/$1"; }

place "$binary" usr/bin/alldata-peer 755
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$root/usr/bin/alldata-peer"
program() { env -i "$root/usr/bin/alldata-peer" "$@"; }

for unit in alldata-peer.service alldata-peer.socket; do
  sed 's|/usr/local/bin/|/usr/bin/|; s|^Documentation=.*|Documentation=man:alldata-peer(1)|' deploy/systemd/$unit |
    text lib/systemd/system/$unit
done
place deploy/systemd/alldata-peer.sysusers usr/lib/sysusers.d/alldata-peer.conf
# A package that was just installed is reached from this machine only, and keeps compiled components.
sed 's|^#hostname = .*|hostname = "127.0.0.1"|; s|^#compile-cache = .*|compile-cache = "/var/cache/alldata-peer"|' \
  deploy/peer.toml | text etc/alldata-peer/peer.toml

mkdir -p "$root/usr/share/man/man1"
program man --output "$root/usr/share/man/man1"
for page in "$root"/usr/share/man/man1/*.1; do zip "${page#"$root/"}"; done
program completions bash | text usr/share/bash-completion/completions/alldata-peer
program completions zsh | text usr/share/zsh/vendor-completions/_alldata-peer
program completions fish | text usr/share/fish/vendor_completions.d/alldata-peer.fish

documents=usr/share/doc/alldata-peer
{
  printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n'
  printf 'Upstream-Name: alldata-peer-server-http\n'
  # Before the first release there is no public source: RELEASING.md.
  sed -n 's/^repository = "\(.*\)"/Source: \1/p' host/Cargo.toml
  printf '\n'
  printf 'Files: *\nCopyright: 2026 The alldata-peer-server-http developers\nLicense: Expat\n'
  sed -n '/^Permission/,$p' LICENSE | sed 's/^$/./; s/^/ /'
} | text $documents/copyright
{
  printf 'alldata-peer (%s) unstable; urgency=medium\n\n  * See the changelog of the project.\n\n' "$version"
  printf ' -- The alldata-peer-server-http developers <alldata-peer@localhost.localdomain>  %s\n' \
    "$(date -uRd "@$SOURCE_DATE_EPOCH")"
} | text $documents/changelog
zip $documents/changelog
for example in haproxy/haproxy.cfg nginx/alldata-peer.conf logrotate/alldata-peer prometheus/alldata-peer.rules.yml \
  prometheus/dashboard.json prometheus/prometheus.yml; do
  place deploy/$example $documents/examples/$example
done
text usr/share/lintian/overrides/alldata-peer < deploy/debian/lintian-overrides

mkdir "$work/debian"
printf 'Source: alldata-peer\n\nPackage: alldata-peer\nArchitecture: any\n' > "$work/debian/control"
libraries=$(cd "$work" && dpkg-shlibdeps -O --ignore-missing-info root/usr/bin/alldata-peer 2>/dev/null |
  sed -n 's/^shlibs:Depends=//p')
mkdir "$root/DEBIAN"
sed "s|@VERSION@|$version|; s|@ARCHITECTURE@|$architecture|; s|@LIBRARIES@|$libraries|; \
s|@SIZE@|$(du -k -s --exclude=DEBIAN "$root" | cut -f 1)|" deploy/debian/control > "$root/DEBIAN/control"
echo /etc/alldata-peer/peer.toml > "$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do install -m 755 deploy/debian/$script "$root/DEBIAN/$script"; done
(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | LC_ALL=C sort -z |
  xargs -0 md5sum > DEBIAN/md5sums)
chmod 644 "$root/DEBIAN/control" "$root/DEBIAN/conffiles" "$root/DEBIAN/md5sums"

mkdir -p "$output"
# shellcheck disable=SC2086 # Several flags.
dpkg-deb --root-owner-group ${DEB_FLAGS:-} --build "$root" "$output/alldata-peer_${version}_${architecture}.deb"
