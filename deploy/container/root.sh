#!/bin/sh
# Makes the directory that the image is built from: root.sh PROGRAM DIRECTORY. The program, the libraries that it is linked with, the
# authorities of the system for `https:`, and a user.
set -eu
program=$1 directory=$2
cd "$(dirname "$0")/../.."
rm -rf "$directory"
root=$directory/root
umask 022
mkdir -p "$directory/data" "$root/etc/ssl/certs" "$root/dev" "$root/proc" "$root/sys" "$root/usr/share/doc/alldata-peer"
install -D -m 755 "$program" "$root/usr/local/bin/alldata-peer"
strip --strip-unneeded "$root/usr/local/bin/alldata-peer"
# A program that is linked statically has none.
ldd "$program" | sed -n 's|^[^/]*\(/[^ ]*\) (0x[0-9a-f]*)$|\1|p' | while read -r library; do
  install -D -m 755 "$(realpath "$library")" "$root$library"
  package=$(basename "$library" | sed 's/^libgcc_s.*/libgcc-s1/; s/^lib[cm][.].*/libc6/; s/^ld-linux.*/libc6/')
  test ! -e "/usr/share/doc/$package/copyright" ||
    install -D -m 644 "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/copyright"
done
install -m 644 LICENSE "$root/usr/share/doc/alldata-peer/copyright"
test ! -e /etc/ssl/certs/ca-certificates.crt ||
  install -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
printf 'root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/data:/sbin/nologin\n' > "$root/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' > "$root/etc/group"
printf 'hosts: files dns\n' > "$root/etc/nsswitch.conf"
