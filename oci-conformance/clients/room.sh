# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The place where the real clients run; sourced first by every driver of this folder.
#
# `enter both|vm CLIENT_ARGUMENTS…` takes the calling driver into a room: it returns only inside, as the first process of a
# machine within the machine. `both` is first the room on this machine's own kernel, then, for those checks alone that were
# skipped there (for want of a controller, say), the one in the virtual machine. Its root is made of Debian sid's packages (nothing is installed on this machine) under
# a layer of memory; it has its own mounts, processes, network, IPC, host name and cgroup tree. When the driver ends, all
# that it started is killed and all that it wrote is gone: see hack/native and hack/vm. To be seen inside:
#
#   RUNTIME   what is tested: /usr/local/bin/NAME, NAME being the file's own; the quick build of berth if not given
#   IMAGE     an image of busybox, berth.test/busybox:1, as a tar that every client can load (OCI layout, docker archive)
#   PAUSE     another, berth.test/pause:1, whose command waits: what a pod stands on
#   CRI_API   the CRI's protocol, runtime/v1/api.proto
#
# ROOM=native or ROOM=vm chooses one room. Of this machine a driver needs root and Debian.

# shellcheck source=../../hack/place.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../hack/place.sh"
say() { printf 'clients/%s: %s\n' "${0##*/}" "$*" >&2; }

CLIENTS=$REPO/oci-conformance/clients

packages=(
    # a small Debian
    base-files base-passwd bash dash bsdutils coreutils diffutils findutils grep gzip hostname iproute2 jq libc-bin
    mawk mount netbase procps sed tar util-linux
    # the clients, without the runtimes they would take by themselves
    containerd
    docker.io docker-cli docker-buildx docker-compose tini iptables
    podman conmon netavark aardvark-dns passt uidmap fuse-overlayfs catatonit nftables
    containernetworking-plugins
    # the client of the CRI socket
    python3-grpcio python3-protobuf protobuf-compiler
)

# enter both|native|vm ARGUMENT…: runs the calling driver anew in the room, unless this is it.
enter() {
    local room=${ROOM:-$1} runtime driver
    shift
    # Set by room-init, and for this machine's own processes never.
    [ "${BERTH_ROOM-}" = "" ] || return 0
    [ "$(id -u)" = 0 ] || die "needs root" 125
    driver=$CLIENTS/${0##*/}

    # shellcheck source=../../hack/apt.sh
    . "$REPO/hack/apt.sh"
    need_packages busybox-static jq
    runtime=${RUNTIME-}
    [ -n "$runtime" ] || runtime=$("$REPO/hack/build" --dev)
    [ -x "$runtime" ] || die "no runtime at $runtime" 125
    if ! once clients/packages "${packages[*]}" fetch_root; then
        echo "skip everything: the clients' packages cannot be had from Debian sid"
        echo "0 passed, 0 failed, 1 skipped"
        exit 0
    fi
    once clients/root "${packages[*]} $(declare -f make_root | cksum)" make_root || die "cannot make the root folder of the room" 125
    "$REPO/hack/criu" >/dev/null || say "without criu: what needs it is skipped"
    once clients/image "$(cksum "$REPO/hack/bundle" "$CLIENTS"/{image,room.sh})" make_images || die "cannot make the images" 125

    [ "$room" != both ] || in_both "$runtime" "$driver" "$@"

    local walls=(unshare --pid --fork --kill-child --mount --propagation private --net --ipc --uts)
    local inside=("$CLIENTS/room-init" "$CACHE/clients" "$(realpath "$runtime")" "$room" "$driver" "$@")
    case $room in
        native) exec "$REPO/hack/native" "${walls[@]}" "${inside[@]}" ;;
        vm) exec "$REPO/hack/vm" --timeout 900 --module bridge "${walls[@]}" "${inside[@]}" ;;
        *) die "no room named $room: native or vm" 125 ;;
    esac
}

# in_both RUNTIME DRIVER ARGUMENT…: runs it in the one room and then in the other, and counts them as one.
in_both() {
    local log status=0 later good bad left
    log=$(mktemp)
    # shellcheck disable=SC2064 # the name is known now
    trap "rm -f '$log'" EXIT
    export RUNTIME=$1
    ROOM=native "${@:2}" | tee "$log" | sed -u -E 's/^skip /later /; s/^[0-9]+ passed, /-- &/' || status=$?
    later=$(sed -n 's/^skip \([a-z0-9_]*\): .*/=\1=/p' "$log")
    if [ -z "$later" ] || [ "$(uname -m)" != x86_64 ]; then # of which there is a virtual machine
        sed -n '/^skip /p; $p' "$log"
        exit $status
    fi
    ROOM=vm TESTS=${later//$'\n'/ } "${@:2}" | tee -a "$log" | sed -u -E 's/^[0-9]+ passed, /-- &/' || status=$?
    if [ "$(grep -cE '^[0-9]+ passed, ' "$log")" != 2 ]; then
        echo "FAIL rooms: one of the two broke off before it had counted its checks" | tee -a "$log"
        echo "0 passed, 1 failed, 0 skipped" >>"$log"
    fi
    read -r good bad < <(awk '/^[0-9]+ passed, / { good += $1; bad += $3 } END { print good + 0, bad + 0 }' "$log")
    left=$(sed -n 's/^[0-9]* passed, .*, \([0-9]*\) skipped/\1/p' "$log" | tail -n 1)
    echo "$good passed, $bad failed, ${left:-0} skipped"
    exit $status
}

# fetch_root: unpacks the packages.
fetch_root() {
    fetch_packages sid "$CACHE/clients" "${packages[@]}" || return
    fetch_alone sid golang-k8s-cri-api-dev "$CACHE/clients/cri" || return
    find "$CACHE/clients/cri" -path '*/runtime/v1/api.proto' -exec cp {} "$CACHE/clients/api.proto" ';'
    rm -rf "$CACHE/clients/cri"
}

# make_root: does what the packages' installation would have done and the clients rely on; may be repeated.
make_root() {
    local root=$CACHE/clients/root tool
    # What a client finds by its own would hide that it did not take ours.
    rm -f "$root"/usr/{s,}bin/{runc,crun}
    rm -rf "$root"/usr/share/{doc,man,locale,i18n}

    cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
    cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
    echo 'docker:x:999:' >>"$root/etc/group"
    echo 'user:x:1000:1000:user:/home/user:/bin/sh' >>"$root/etc/passwd"
    echo 'user:x:1000:' >>"$root/etc/group"
    echo user:100000:65536 | tee "$root/etc/subuid" >"$root/etc/subgid"
    mkdir -p "$root/home/user"
    chown 1000:1000 "$root/home/user"
    echo '127.0.0.1 localhost room' >"$root/etc/hosts"
    : >"$root/etc/resolv.conf"
    rm -rf "$root/var/run"
    ln -s /run "$root/var/run"
    echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
    [ -e "$root/usr/bin/sh" ] || ln -s dash "$root/usr/bin/sh"
    ln -sf mawk "$root/usr/bin/awk"
    for tool in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
        ln -sf xtables-nft-multi "$root/usr/sbin/$tool"
    done
}

# fetch_alone SUITE PACKAGE DIR: unpacks one package without what it depends on, after fetch_packages of the same SUITE.
fetch_alone() {
    local apt=$CACHE/apt/$1
    rm -rf "$3"
    mkdir -p "$3"
    (cd "$3" && apt-get -c "$apt/apt.conf" -qq download "$2" >&2 && dpkg -x ./*.deb .)
}

make_images() {
    "$CLIENTS/image" "$CACHE/clients/image.new" && mv "$CACHE/clients/image.new" "$CACHE/clients/image.tar" || return
    "$CLIENTS/image" "$CACHE/clients/image.new" berth.test/pause:1 sleep 1000000000 \
        && mv "$CACHE/clients/image.new" "$CACHE/clients/pause.tar"
}
