#!/bin/bash
# Builds Debian's NNG 1.5.2 with the fixes in patches/ as a static library.
#
# Usage: build.sh PREFIX
#   SLUICE_NNG_CMAKE_ARGS   more arguments for NNG's CMake, such as -DNNG_SANITIZER=thread
#   SLUICE_NNG_SOURCE       a folder that holds Debian's source package already (nothing is downloaded)
#
# The source comes from the machine's own Debian mirrors, through a private copy of their list: the system's apt
# configuration and package lists stay as they are, and no root is needed. A run that finds PREFIX up to date does
# nothing; one that was interrupted is made good by the next.
set -euo pipefail

here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
version=1.5.2

say() {
    printf 'nng: %s\n' "$*" >&2
}

die() {
    say "$@"
    exit 1
}

# need COMMAND PACKAGE
need() {
    command -v "$1" >/dev/null || die "$1 is missing: install the Debian package $2"
}

# Runs a command with its output kept in a file, which is shown (its end) if the command fails.
logged() {
    local log=$1
    shift
    if ! "$@" >"$log" 2>&1; then
        tail -n 25 "$log" >&2
        die "failed: $1 (all of its output is in $log)"
    fi
}

fingerprint() {
    {
        cat "$here/build.sh" "$here"/patches/*.patch
        printf '%s\n' "${SLUICE_NNG_CMAKE_ARGS:-}"
    } | sha256sum | cut -d ' ' -f 1
}

# The configured sources in both of apt's formats, turned into sources of source packages.
private_sources() {
    local to=$1 file
    mkdir -p "$to"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [[ -r $file ]] || continue
        # An entry that is there for deb and for deb-src must not come twice.
        sed -nE '/^[[:space:]]*deb(-src)?[[:space:]]+(\[[^]]*\][[:space:]]+)?cdrom:/d
            s/^[[:space:]]*deb(-src)?[[:space:]]+/deb-src /p' "$file" |
            awk '!seen[$0]++' >"$to/$(basename "$file")"
    done
    for file in /etc/apt/sources.list.d/*.sources; do
        [[ -r $file ]] || continue
        sed -E 's/^[Tt]ypes:.*/Types: deb-src/' "$file" >"$to/$(basename "$file")"
    done
    [[ -n $(ls "$to") ]] || die "no apt sources are configured in /etc/apt"
}

# Leaves Debian's source package in the folder $1.
download() {
    local to=$1 apt=$prefix/apt revision
    need apt-get apt
    rm -rf "$apt" "$to.part"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$to.part"
    private_sources "$apt/sources"
    # The hooks belong to the system's lists.
    cat >"$apt/apt.conf" <<EOF
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$apt/sources";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt/cache";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
EOF
    # A foreign repository without source packages may fail here; what counts is whether NNG is found.
    apt-get -c "$apt/apt.conf" -q update >"$apt/update.log" 2>&1 || true
    revision=$({ apt-cache -c "$apt/apt.conf" showsrc nng 2>/dev/null || true; } |
        awk -v want="$version-" '$1 == "Version:" && index($2, want) == 1 { print $2 }' | sort -V | tail -n 1)
    if [[ -z $revision ]]; then
        tail -n 10 "$apt/update.log" >&2
        die "the configured apt sources offer no source package nng $version (no network? not Debian 12?)"
    fi
    (cd "$to.part" && logged "$apt/source.log" apt-get -c "$apt/apt.conf" -q source --download-only "nng=$revision")
    mv "$to.part" "$to"
    rm -rf "$apt"
}

unpack() {
    local from=$1 to=$2 dsc patch
    dsc=("$from"/nng_"$version"-*.dsc)
    [[ ${#dsc[@]} -eq 1 && -r ${dsc[0]} ]] || die "$from does not hold one source package of nng $version"
    # apt has checked the files against the signed index; the .dsc's own signature needs a keyring of all maintainers.
    logged "$prefix/unpack.log" dpkg-source --no-check -x "${dsc[0]}" "$to"
    for patch in "$here"/patches/*.patch; do
        logged "$prefix/unpack.log" patch -d "$to" -p1 --forward --fuzz=0 --batch -i "$patch"
    done
}

build() {
    local source=$1 build=$2 generator=()
    command -v ninja >/dev/null && generator=(-G Ninja)
    # No NDEBUG, as in Debian's own build: an assertion that fails should end the process, not corrupt it.
    # shellcheck disable=SC2086 # the extra arguments are words
    logged "$prefix/configure.log" cmake -S "$source" -B "$build" "${generator[@]}" \
        -DCMAKE_BUILD_TYPE=None \
        -DCMAKE_C_FLAGS="-O2 -g -fstack-protector-strong -fstack-clash-protection -D_FORTIFY_SOURCE=2 -ffile-prefix-map=$source=nng" \
        -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DCMAKE_INSTALL_PREFIX="$prefix" -DCMAKE_INSTALL_LIBDIR=lib \
        -DBUILD_SHARED_LIBS=OFF -DNNG_ENABLE_TLS=ON -DNNG_TESTS=OFF -DNNG_TOOLS=OFF ${SLUICE_NNG_CMAKE_ARGS:-}
    logged "$prefix/build.log" cmake --build "$build" --parallel "$(nproc)"
    logged "$prefix/install.log" cmake --install "$build"
}

[[ $# -eq 1 && $1 != -* ]] || { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 64; }
mkdir -p "$1"
prefix=$(cd "$1" && pwd)

# Two builds that want the same library at the same time: the second waits and finds it done.
exec 9>"$prefix/lock"
flock 9

stamp=$(fingerprint)
[[ $(cat "$prefix/stamp" 2>/dev/null) != "$stamp" ]] || exit 0

need cmake cmake
need cc build-essential
need dpkg-source dpkg-dev
need patch patch
[[ -r /usr/include/mbedtls/ssl.h ]] || die "mbedtls/ssl.h is missing: install the Debian package libmbedtls-dev"

say "building $version with $(cd "$here/patches" && echo *.patch)"
work=$prefix/work
rm -rf "$work" "${prefix:?}"/{stamp,include,lib}
mkdir "$work"
source=${SLUICE_NNG_SOURCE:-$prefix/source}
[[ -n ${SLUICE_NNG_SOURCE:-} || -d $source ]] || download "$source"
unpack "$source" "$work/nng"
build "$work/nng" "$work/build"
rm -rf "$work"
printf '%s\n' "$stamp" >"$prefix/stamp"
say "installed in $prefix"
