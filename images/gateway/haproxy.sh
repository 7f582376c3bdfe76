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

# A request takes three buffers of 64 KiB for a moment. By default malloc gives their pages back at once and asks for
# them again, which took HAProxy a twentieth of its processor time; so it keeps 32 MiB.
export MALLOC_TRIM_THRESHOLD_=33554432 MALLOC_TOP_PAD_=4194304

until [ -s "$run/haproxy.cfg" ]; do
    sleep 0.1
done
haproxy -W -db -S "$run/master.sock" -f "$run/haproxy.cfg" &
haproxy=$!
# A signal ends `wait` before HAProxy has ended.
while kill -0 "$haproxy" 2>/dev/null; do
    wait "$haproxy"
    status=$?
done
exit "$status"
