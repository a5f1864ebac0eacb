#!/bin/sh
# What has to hold where the package is installed and systemd is process 1. The last line is "passed".
set -eu
fail() { echo "$*"; systemctl --no-pager status alldata-peer.service alldata-peer.socket; exit 1; }
put() { curl --silent --output /dev/null --write-out '%{http_code}' --max-time 30 --data "{\"key\":\"$1\",\"event\":$2}" "${3:-http://127.0.0.1:8080/_put}"; }
status() { systemctl show --value --property "$1" alldata-peer.service; }

echo "started by the system: Type=notify"
test "$(status ActiveState)" = active || fail "the service is not active"
test "$(status StatusText)" = 'listening on http://127.0.0.1:8080' || fail "status: $(status StatusText)"
test "$(put started 1)" = 201 || fail "no 201"

echo "in its sandbox, as its user"
test "$(stat -c %U:%a /var/lib/alldata-peer)" = alldata-peer:700 || fail "the directory of the store"
test "$(stat -c %U "/proc/$(status MainPID)")" = alldata-peer || fail "another user"
grep -q '^CapEff:[[:space:]]*0*$' "/proc/$(status MainPID)/status" || fail "it has capabilities"
grep -q '^NoNewPrivs:[[:space:]]*1$' "/proc/$(status MainPID)/status" || fail "it may get privileges"
grep -q '^Seccomp:[[:space:]]*2$' "/proc/$(status MainPID)/status" || fail "no filter of system calls"
test -n "$(ls /var/cache/alldata-peer)" || fail "nothing is in the compile cache"

echo "reload"
pid=$(status MainPID)
systemctl reload alldata-peer.service
test "$(status MainPID)" = "$pid" || fail "the reload ended it"
test "$(put reloaded 1)" = 201 || fail "no 201 after the reload"

echo "variables, and the access log: reopened by a reload"
echo 'ALLDATA_PEER_ACCESS_LOG=/var/log/alldata-peer/access.log' > /etc/alldata-peer/environment
systemctl restart alldata-peer.service
test "$(put logged 1)" = 201 || fail "no 201 with an access log"
mv /var/log/alldata-peer/access.log /var/log/alldata-peer/access.log.1
systemctl reload alldata-peer.service
tries=0
until test "$(put again 1)" = 201 && test -s /var/log/alldata-peer/access.log; do
  tries=$((tries + 1)) && test "$tries" -lt 100 || fail "the access log was not reopened"
  sleep 0.2
done
grep -q '"path":"/_put"' /var/log/alldata-peer/access.log.1 || fail "the old access log is empty"

version=$(systemctl --version | sed -n 's/^systemd \([0-9]*\).*/\1/p')
if test "$version" -ge 253; then
  echo "Type=notify-reload: a reload ends when the server has reloaded"
  mkdir -p /etc/systemd/system/alldata-peer.service.d
  printf '[Service]\nType=notify-reload\nExecReload=\n' > /etc/systemd/system/alldata-peer.service.d/type.conf
  systemctl daemon-reload && systemctl restart alldata-peer.service
  for number in 1 2 3; do
    mv /var/log/alldata-peer/access.log /var/log/alldata-peer/access.log.2
    systemctl reload alldata-peer.service
    test -e /var/log/alldata-peer/access.log || fail "the reload ended before the access log was reopened"
    test "$(status ActiveState)" = active || fail "the service is $(status ActiveState)"
  done
fi

echo "killed, and started again"
systemctl kill --signal=KILL --kill-whom=main alldata-peer.service
tries=0
until test "$(put killed 1)" = 201; do
  tries=$((tries + 1)) && test "$tries" -lt 100 || fail "it was not started again"
  sleep 0.2
done
test "$(status NRestarts)" = 1 || fail "restarts: $(status NRestarts)"

echo "socket activation: a restart refuses no connection"
systemctl stop alldata-peer.service
systemctl start alldata-peer.socket
# The socket starts the service.
test "$(put activated 1)" = 201 || fail "no 201 through the socket unit"
(for number in $(seq 200); do put "socket$number" 1; echo; done > /tmp/codes) &
puts=$!
for number in 1 2 3; do systemctl restart alldata-peer.service; done
wait $puts
test "$(sort -u /tmp/codes)" = 201 || fail "answers during restarts: $(sort /tmp/codes | uniq -c)"

echo "a Unix socket for a group"
mkdir -p /etc/systemd/system/alldata-peer.socket.d
printf '[Socket]\nListenStream=/run/alldata-peer.sock\nSocketMode=0660\nSocketGroup=alldata-peer\n' \
  > /etc/systemd/system/alldata-peer.socket.d/unix.conf
systemctl daemon-reload
systemctl stop alldata-peer.service
systemctl restart alldata-peer.socket
test "$(stat -c %G:%a /run/alldata-peer.sock)" = alldata-peer:660 || fail "the mode of the socket"
code=$(curl --silent --output /dev/null --write-out '%{http_code}' --unix-socket /run/alldata-peer.sock \
  --data '{"key":"unix","event":1}' http://peer/_put)
test "$code" = 201 || fail "no 201 through the Unix socket"

echo "an upgrade restarts it, and its socket stays"
pid=$(status MainPID)
dpkg --install /newer.deb > /dev/null
test "$(status MainPID)" != "$pid" || fail "the old program runs on"
test "$(put upgraded 1)" = 201 || fail "no 201 after the upgrade"

rm /etc/alldata-peer/environment

echo "the end"
systemctl stop alldata-peer.socket alldata-peer.service
test "$(status Result)" = success || fail "result: $(status Result)"
for key in started reloaded logged again killed activated socket1 socket200 unix upgraded; do
  test "$(alldata-peer get $key --store sqlite:/var/lib/alldata-peer/alldata.db)" = 1 || fail "$key is lost"
done
echo passed
