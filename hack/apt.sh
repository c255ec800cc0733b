# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Debian packages for the other scripts; sourced after place.sh.
#
# need_packages  installs on this machine what a script cannot do without.
# fetch_packages unpacks packages of a newer Debian into the cache, without installing anything.

# need_packages PACKAGE…: installs those not yet installed, and says so.
need_packages() {
    local package missing=()
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || die "these Debian packages are missing; install them as root: apt-get install ${missing[*]}"
    say "installing Debian packages: ${missing[*]}"
    # The package lists of a new machine are empty or old, so a first failure asks for new ones.
    apt_install "${missing[@]}" || { apt-get -qq update >&2 && apt_install "${missing[@]}"; } \
        || die "cannot install: ${missing[*]}"
}

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
        -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" >&2
}

# debian_mirror: the mirror this machine gets its own Debian packages from.
debian_mirror() {
    # shellcheck disable=SC2016 # the dollar is apt's
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null \
        | sed '/security/d; s,/*$,,' | sort -u | head -n 1
}

# fetch_packages SUITE DIR PACKAGE…: unpacks PACKAGEs of SUITE and all they depend on into DIR/root.
#
# apt resolves the dependencies against an empty machine (no dpkg status), with lists and archives of their own
# under $CACHE/apt, so this machine's apt state is neither read nor touched; root is not needed.
fetch_packages() {
    local suite=$1 dir=$2 apt=$CACHE/apt/$1 mirror deb
    shift 2
    mirror=$(debian_mirror)
    mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$dir"
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' \
        "${mirror:-http://deb.debian.org/debian}" "$suite" >"$apt/sources.list"
    : >"$apt/status"
    # Read after the machine's own configuration, so what that says of proxies holds; its hooks would act on its caches.
    cat >"$apt/apt.conf" <<END
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
Dir::Cache::archives "$apt/archives";
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Debug::NoLocking "true";
Acquire::Retries "5";
APT::Sandbox::User "";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
END
    say "fetching from Debian $suite: $*"
    apt-get -c "$apt/apt.conf" -qq update >&2 || return
    rm -f "$apt/archives"/*.deb
    apt-get -c "$apt/apt.conf" -qq install -y --no-install-recommends --download-only "$@" >&2 || return
    rm -rf "$dir/root"
    for deb in "$apt/archives"/*.deb; do
        dpkg -x "$deb" "$dir/root" || return
    done
    rm -f "$apt/archives"/*.deb
}

# bind_to_libraries ROOT BINARY: makes a BINARY unpacked with its libraries in ROOT run with those, loader included.
bind_to_libraries() {
    local root=$1 binary=$2 loader rpath
    loader=$(find "$root"/lib "$root"/usr/lib -name 'ld-linux-*.so.*' -print -quit 2>/dev/null)
    rpath=$(find "$root"/lib "$root"/usr/lib -maxdepth 1 -name '*-linux-gnu' -printf '%p:' 2>/dev/null)
    [ -n "$loader" ] || { say "no loader in $root"; return 1; }
    patchelf --set-interpreter "$loader" --set-rpath "${rpath%:}" "$binary"
}
