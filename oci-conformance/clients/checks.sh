# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# How a driver in its room makes its checks; sourced after room.sh, when `enter` has returned.
#
# A check is a function check_NAME of the driver, run in the order of the file, each in a shell of its own with `set -eu`
# and a limit of time. It passes if it ends with 0; `fail` and `skip` end it with a reason. `run_checks` prints a line for
# each, `ok NAME`, `FAIL NAME: reason` or `skip NAME: reason` (under a failure, what the check printed and what the daemons
# logged meanwhile), and at last `N passed, N failed, N skipped`. TESTS='WORD…' keeps those where =NAME= contains a WORD.

LOGS=/var/log/clients
REASON=/run/check-reason
CHECK_SECONDS=${CHECK_SECONDS:-60}
[ "$BERTH_ROOM" = native ] || CHECK_SECONDS=$((3 * CHECK_SECONDS))

fail() { echo "$*" >$REASON; exit 1; }
skip() { echo "$*" >$REASON; exit 77; }

# equal WHAT GOT WANTED
equal() { [ "$2" = "$3" ] || fail "$1: got ${2@Q}, wanted ${3@Q}"; }

# contains WHAT TEXT PART
contains() { case $2 in *"$3"*) ;; *) fail "$1: no ${3@Q} in ${2@Q}" ;; esac }
lacks() { case $2 in *"$3"*) fail "$1: ${3@Q} in ${2@Q}" ;; esac }

# ends_with STATUS COMMAND…: the command's output stays where it goes.
ends_with() {
    local wanted=$1 status=0
    shift
    "$@" || status=$?
    [ $status = "$wanted" ] || fail "exit status $status, wanted $wanted: $*"
}

# eventually COMMAND…: tries it for 15 seconds (longer in the slower room).
eventually() {
    local end=$((SECONDS + CHECK_SECONDS / 4))
    until "$@"; do
        [ $SECONDS -lt $end ] || fail "never came true: $*"
        sleep 0.1
    done
}

# says FILE PART: whether the file contains it.
says() { grep -qF -- "$2" "$1"; }

# with_terminal COMMAND…: runs it on a terminal of its own, whose keyboard is stdin; the terminal's output loses its CRs.
with_terminal() {
    local line
    printf -v line ' %q' "$@"
    script --quiet --return --echo never --command "exec$line" /dev/null | tr -d '\r'
    return "${PIPESTATUS[0]}"
}

# users_file NAME: prints that file of docs/clients, with what is tested in the place of berth (and its name, or `runtime`).
users_file() {
    sed "s,/usr/local/sbin/berth,@RUNTIME@,g; s/\bberth\b/${runtime:-${RUNTIME##*/}}/g; s,@RUNTIME@,$RUNTIME,g" "$REPO/docs/clients/$1"
}

# need_controller NAME…: skips the check where the cgroup tree has them not.
need_controller() {
    local name
    for name in "$@"; do
        grep -qw "$name" /sys/fs/cgroup/cgroup.controllers || skip "no cgroup v2 controller $name here"
    done
}

# need_capability NAME NUMBER: skips the check where root itself lacks it.
need_capability() {
    local mask
    mask=$(sed -n 's/^CapEff:\t*//p' /proc/self/status)
    [ $((0x$mask >> $2 & 1)) = 1 ] || skip "root lacks $1 here"
}

# need_criu: skips the check where there is no CRIU, or none that this kernel lets work.
need_criu() {
    command -v criu >/dev/null || skip "no criu: hack/criu could not fetch it"
    criu check >/run/criu-check 2>&1 || skip "CRIU cannot work here: $(tail -n 1 /run/criu-check)"
}

# daemon NAME COMMAND…: starts it in the background in a session of its own, its log kept; daemon_pid tells its pid.
daemon() {
    local name=$1
    shift
    mkdir -p $LOGS
    # In a cgroup of its own, so that no container's limits or kills can reach it.
    mkdir -p "/sys/fs/cgroup/clients/$name"
    sh -c 'echo $$ >"/sys/fs/cgroup/clients/$1/cgroup.procs"; echo $$ >"/run/$1.daemon"; shift; exec "$@"' sh "$name" \
        setsid "$@" >>"$LOGS/$name.log" 2>&1 </dev/null &
}
daemon_pid() { cat "/run/$1.daemon"; }

# stop_all: ends whatever still runs and removes the cgroups that clients made, so that hack/native finds none to speak of.
stop_all() {
    local group
    for group in /sys/fs/cgroup/*/; do
        case $group in
            */command/ | */init.scope/) ;; # our own, and in the virtual machine its first process's
            *) echo 1 >"$group/cgroup.kill" 2>/dev/null || true ;;
        esac
    done
    wait
    sleep 0.1
    find /sys/fs/cgroup -depth -mindepth 1 -type d ! -name command ! -name init.scope -exec rmdir {} + 2>/dev/null || true
}

# run_checks ARGUMENT…: the driver's own arguments. Of the driver's functions `start` makes the room ready, `client`
# says the client's name and version, and `sweep` removes what a failed check may have left, so that it spoils no other.
run_checks() {
    local name words word status begun passed=0 failed=0 skipped=0 checks log
    case ${1-} in
        # In shells of their own: as a condition of this one a function would go on after a command that failed.
        --start) set -eu; start; exit 0 ;;
        --check) set -eu; "check_$2"; exit 0 ;;
    esac
    mkdir -p $LOGS
    begun=$SECONDS
    if ! timeout --kill-after=5 $((3 * CHECK_SECONDS)) bash "$0" --start >$LOGS/start.log 2>&1 </dev/null; then
        tail -n 40 $LOGS/*.log
        echo "FAIL start: the client does not start"
        echo "0 passed, 1 failed, 0 skipped"
        exit 1
    fi
    echo "-- $(client) drives $("$RUNTIME" --version | head -n 1) ($RUNTIME); ready in $((SECONDS - begun)) s"
    read -ra words <<<"${TESTS-}"
    mapfile -t checks < <(sed -n 's/^check_\([a-z0-9_]*\)() .*/\1/p' "$0")
    for name in "${checks[@]}"; do
        for word in "${words[@]}"; do [[ =$name= != *$word* ]] || break; word=''; done
        [ ${#words[@]} = 0 ] || [ -n "$word" ] || continue
        : >$REASON
        for log in "$LOGS"/*.log; do stat -c %s "$log" >"$log.before"; done
        begun=$SECONDS
        status=0
        timeout --kill-after=5 "$CHECK_SECONDS" bash "$0" --check "$name" >/run/check-output 2>&1 </dev/null || status=$?
        [ $status != 124 ] || echo "still running after $CHECK_SECONDS seconds" >$REASON
        [ -s $REASON ] || [ $status = 0 ] || echo "status $status at: $(tail -n 1 /run/check-output)" >$REASON
        case $status in
            0) echo "ok $name"; passed=$((passed + 1)) ;;
            77) echo "skip $name: $(cat $REASON)"; skipped=$((skipped + 1)) ;;
            *) echo "FAIL $name: $(cat $REASON)"; failed=$((failed + 1)); show_logs; (sweep >/dev/null 2>&1) || true ;;
        esac
        [ $((SECONDS - begun)) -lt 15 ] || echo "-- $name took $((SECONDS - begun)) s"
    done
    stop_all
    echo "$passed passed, $failed failed, $skipped skipped"
    [ $failed = 0 ]
}

# show_logs: what the failed check printed, and what the daemons said since it began.
show_logs() {
    local log
    tail -n 30 /run/check-output | sed 's/^/    | /'
    for log in "$LOGS"/*.log; do
        tail -c +$(($(cat "$log.before" 2>/dev/null || echo 0) + 1)) "$log" | tail -n 20 | sed "s,^,    ${log##*/}: ,"
    done
}
