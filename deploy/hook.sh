#!/bin/sh
# What the line controller calls for one board while it stands still:  hook.sh EXPORT
#
# Exit status 0 lets the board go on, 1 sends it to rework, 2 to a person, anything else stops it: adapt the four actions.
# The answer, one JSON object, is on standard output and kept in the log.
set -u

: "${INSPECT_POP:=inspect-pop}"                 # the command, or its full path
: "${INSPECT_POP_STORE:=/var/lib/inspect-pop/records.db}"
: "${INSPECT_POP_LOG:=/var/log/inspect-pop-hook.log}"
: "${DEADLINE_S:=20}"                           # the line's own timeout must be longer
export INSPECT_POP_STORE

if [ $# -ne 1 ]; then
    echo "usage: hook.sh EXPORT" >&2
    exit 3
fi

answer=$("$INSPECT_POP" hook "$1" --deadline "$DEADLINE_S")
status=$?
printf '%s\n' "$answer"
printf '%s %s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$status" "$answer" >>"$INSPECT_POP_LOG" || :

case $status in
    0) exit 0 ;;                                # pass: let it go on
    1) exit 1 ;;                                # fail: to rework; the JSON names the joints
    2) exit 2 ;;                                # review: a person looks at it
    *) exit 3 ;;                                # could not inspect, killed, not installed: stop, and call somebody
esac
