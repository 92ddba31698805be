# What every tool here shares: where things are, what is installed, how a build is asked for.
# Sourced by bash, never run.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$top"

say() { printf '%s\n' "$*" >&2; }
fail() { say "$(basename "$0"): $*"; exit 1; }

# install_debian PACKAGE... : installs what is missing, and says what to do where it cannot.
install_debian() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || fail "these Debian packages are needed; install them as root: ${missing[*]}"
        as_root=(sudo)
    fi
    say "installing: ${missing[*]}"
    "${as_root[@]}" apt-get update -qq >&2 || true
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends \
        -o DPkg::Lock::Timeout=120 "${missing[@]}" >/dev/null \
        || fail "apt-get could not install: ${missing[*]}"
}

# unpack_debian PACKAGE : its files in .build/debian/PACKAGE, not installed: a server would be started. Sets $unpacked.
unpack_debian() {
    unpacked="$top/.build/debian/$1"
    [ -d "$unpacked" ] && return 0
    rm -rf "$unpacked.new"
    mkdir -p "$unpacked.new/package"
    chmod 777 "$unpacked.new/package" # for apt's own user
    (cd "$unpacked.new/package" && apt-get download -qq "$1" >&2) || fail "apt-get could not fetch $1"
    dpkg -x "$unpacked.new/package"/*.deb "$unpacked.new"
    mv "$unpacked.new" "$unpacked"
}

need_swift() {
    command -v swiftc >/dev/null || fail "Swift 6.3 is needed: install it from swift.org and put swiftc on the PATH"
    swift_root=$(dirname "$(dirname "$(readlink -f "$(command -v swiftc)")")")
    [ -d "$swift_root/lib/swift/embedded/x86_64-unknown-linux-gnu" ] \
        || fail "this Swift has no Embedded library for x86-64 Linux: $swift_root"
}

# need_python NAME PACKAGE... : a virtual environment under .build with these PyPI packages; sets $python.
need_python() {
    local name=$1; shift
    install_debian python3 python3-venv
    local venv=".build/python-$name"
    python="$top/$venv/bin/python"
    if [ ! -f "$venv/.complete" ] || [ "$(cat "$venv/.complete")" != "$*" ]; then
        rm -rf "$venv"
        mkdir -p .build
        /usr/bin/python3 -m venv "$venv"
        if [ $# -gt 0 ]; then
            "$python" -m pip install --quiet --disable-pip-version-check "$@" >&2 || fail "pip could not install: $*"
        fi
        echo "$*" >"$venv/.complete"
    fi
}
