#!/bin/sh
# Checks the Debian package: check.sh PACKAGE DIRECTORY. lintian, then in a throw-away root in DIRECTORY: installation, upgrade and
# purge by dpkg, and the service, its socket unit and its sandbox under systemd as process 1. Needs root, mmdebstrap,
# systemd-container, lintian, and the archive of Debian for the root, which is kept for the next time. `make deb-check` calls it.
# SUITE is another release of Debian than 12: from 13 on, systemd has `Type=notify-reload`, which is tested then.
set -eu
suite=${SUITE:-bookworm} package=$(realpath "$1") work=$(realpath "$2") here=$(dirname "$(realpath "$0")")
base=$work/$suite.tar root=$work/root
say() { echo "deb-check: $*"; }
fail() { say "$*" >&2; exit 1; }

say "lintian"
lintian --fail-on error,warning --allow-root "$package"

test -s "$base" || {
  say "making a root of Debian"
  mmdebstrap --quiet --format=tar --variant=minbase --include=systemd,curl "$suite" "$base.part" && mv "$base.part" "$base"
}
rm -rf "$root" && mkdir "$root" && tar -C "$root" -xf "$base"
in_root() { chroot "$root" "$@"; }
# The same package with a higher version.
newer=$work/newer.deb
rm -rf "$work/unpacked" && dpkg-deb -R "$package" "$work/unpacked"
sed -i 's/^Version: .*/&+upgrade/' "$work/unpacked/DEBIAN/control"
dpkg-deb --root-owner-group -Zgzip -z1 --build "$work/unpacked" "$newer" > /dev/null
cp "$package" "$root/first.deb" && cp "$newer" "$root/newer.deb"

say "installation"
in_root dpkg --install /first.deb > /dev/null
in_root dpkg --verify alldata-peer
in_root id alldata-peer > /dev/null || fail "there is no user"
in_root alldata-peer --version > /dev/null
in_root alldata-peer serve --config /etc/alldata-peer/peer.toml --check --sink memory: > /dev/null
test -L "$root/etc/systemd/system/multi-user.target.wants/alldata-peer.service" || fail "the service is not enabled"
test "$(stat -c %G "$root/etc/alldata-peer")" = "$(stat -c %G "$root/etc")" && fail "the configuration has no group"

say "under systemd"
cp "$here/under-systemd.sh" "$root/under-systemd.sh"
cp "$here/check.service" "$root/etc/systemd/system/check.service"
in_root systemctl --quiet enable check.service
# A container ends by itself, or is ended.
timeout --kill-after=10 300 systemd-nspawn --quiet --register=no --keep-unit --private-network --directory="$root" \
  --boot systemd.unit=multi-user.target < /dev/null > "$work/console" 2>&1 || true
cat "$root/result" 2> /dev/null || { tail -n 30 "$work/console" >&2; fail "nothing ran under systemd"; }
test "$(tail -n 1 "$root/result")" = passed || fail "the service failed under systemd, see $root/result"
test -s "$root/var/lib/alldata-peer/alldata.db" || fail "there is no store"

say "upgrade and purge"
rm -rf "$root/first.deb"
echo '# A line of the administrator' >> "$root/etc/alldata-peer/peer.toml"
in_root dpkg --install /newer.deb > /dev/null
grep -q administrator "$root/etc/alldata-peer/peer.toml" || fail "the upgrade lost the configuration"
in_root dpkg --remove alldata-peer > /dev/null
test -e "$root/etc/alldata-peer/peer.toml" || fail "the configuration is removed without a purge"
in_root dpkg --purge alldata-peer > /dev/null 2> "$work/purge"
grep -q 'were kept' "$work/purge" || fail "the purge does not say that the events were kept"
test -s "$root/var/lib/alldata-peer/alldata.db" || fail "the purge removed the events"
for path in /etc/alldata-peer /usr/bin/alldata-peer /usr/share/doc/alldata-peer /var/cache/alldata-peer /var/log/alldata-peer \
  /etc/systemd/system/multi-user.target.wants/alldata-peer.service; do
  test ! -e "$root$path" -a ! -L "$root$path" || fail "the purge left $path"
done
rm -rf "$root" "$work/unpacked" "$newer"
say "passed"
