#!/bin/sh
# Runs the agent or the activator in a gateway pod, and starts it anew when it ends. If its container ended instead, the
# pod would not be ready, and nobody would be sent to HAProxy, which needs neither of them for models that are up.
set -u
process="$1"
child=""
told=""

ending() {
    told=yes
    [ -z "$child" ] || kill -TERM "$child" 2>/dev/null
}
trap ending TERM INT

while [ -z "$told" ]; do
    python -m nightshift.gateway "$process" &
    child=$!
    [ -z "$told" ] || kill -TERM "$child"
    wait "$child"
    status=$?
    # A signal ends `wait` before the process has ended.
    while kill -0 "$child" 2>/dev/null; do
        wait "$child"
        status=$?
    done
    child=""
    [ -z "$told" ] || exit "$status"
    echo "The $process ended with status $status and is started anew in 1 s" >&2
    sleep 1
done
