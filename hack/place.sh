# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Where things are: sourced first by every script in hack/.
#
# Sets REPO (the checkout), CACHE (what is fetched once and kept: .cache/ in the checkout, or BERTH_CACHE)
# and the two ways a script speaks to its reader: `say` and `die`, both on stderr.

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
CACHE=${BERTH_CACHE:-$REPO/.cache}
case $CACHE in /*) ;; *) CACHE=$PWD/$CACHE ;; esac

say() { printf '%s: %s\n' "hack/${0##*/}" "$*" >&2; }
die() { say "$1"; exit "${2-1}"; }

# once NAME KEY COMMAND…: runs COMMAND unless it has already succeeded with this KEY; parallel callers wait.
# The mark is $CACHE/NAME.done, so removing that file (or the whole cache) makes it run again.
once() {
    local mark=$CACHE/$1.done key=$2 lock
    shift 2
    mkdir -p "$(dirname "$mark")"
    exec {lock}>"$mark.lock"
    flock "$lock"
    if [ "$(cat "$mark" 2>/dev/null)" != "$key" ]; then
        rm -f "$mark"
        "$@" {lock}>&- || return
        printf '%s\n' "$key" >"$mark"
    fi
    exec {lock}>&-
}

# usage: prints the comment at the head of the calling script, and ends it.
usage() {
    sed -n '3,/^[^#]/{s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}
