#!/bin/sh
# The line controller calls this for one board while the board waits:  hook.sh EXPORT
#
# Exit status: 0 the board goes on, 1 to rework, 2 to a person, anything else stops it. Adapt the four actions.
# The answer, one JSON object, goes to standard output and to the log.
set -u

: "${INSPECT_POP:=inspect-pop}"                 # the command, or its full path
: "${INSPECT_POP_STORE:=/var/lib/inspect-pop/records.db}"
: "${INSPECT_POP_LOG:=/var/log/inspect-pop-hook.log}"
: "${DEADLINE_S:=20}"                           # the line's timeout must be longer
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
    0) exit 0 ;;                                # pass: the board goes on
    1) exit 1 ;;                                # fail: to rework; the answer names the joints
    2) exit 2 ;;                                # review: a person inspects it
    *) exit 3 ;;                                # could not inspect, killed, not installed: stop and call a person
esac
