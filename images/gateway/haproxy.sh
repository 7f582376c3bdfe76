#!/bin/sh
# Runs HAProxy in a gateway pod: it starts when the agent beside it has written its configuration, and ends when its
# requests have. Its own SIGTERM would cut them off, and a pod's end is told by SIGTERM.
set -u
run="${NIGHTSHIFT_RUN_DIRECTORY:-/run/nightshift}"
haproxy=""

ending() {
    [ -n "$haproxy" ] || exit 0
    kill -USR1 "$haproxy"
}
trap ending TERM INT

until [ -s "$run/haproxy.cfg" ]; do
    sleep 0.1
done
/usr/sbin/haproxy -W -db -S "$run/master.sock" -f "$run/haproxy.cfg" &
haproxy=$!
# A signal ends `wait` before HAProxy has ended.
while kill -0 "$haproxy" 2>/dev/null; do
    wait "$haproxy"
    status=$?
done
exit "$status"
