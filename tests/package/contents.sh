#!/bin/bash
# Makes the package as `./run.sh package` does (lintian among it), and looks at what is in it.
# Usage: contents.sh BUILD_DIR
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

failed=0
# check WHAT COMMAND...
check() {
    local what=$1
    shift
    "$@" || { echo "FAILED: $what"; failed=1; }
}
field() { dpkg-deb --field "$package" "$1"; }
# shellcheck disable=SC2317 # check calls it
holds() { [[ $(stat -c %a "$work/$1") == "$2" ]]; }

for tool in dpkg-deb lintian file; do
    command -v "$tool" >/dev/null || { echo "SKIPPED: no $tool here"; exit 77; }
done
"$root/run.sh" package
package=$(echo "$1"/sluice_*.deb)
dpkg-deb --extract "$package" "$work"
dpkg-deb --control "$package" "$work/DEBIAN"
triplet=$(basename "$(dirname "$(echo "$work"/usr/lib/*/libsluice.a)")")

check "name" test "$(field Package)" = sluice
for library in libc6 libcjson1 libcurl4 libsodium23 libsqlite3-0 libsystemd0 libuuid1 systemd; do
    check "Depends: $library" grep -qw -- "$library" <<<"$(field Depends)"
done
while read -r mode path; do
    check "$path with mode $mode" holds "$path" "$mode"
done <<LIST
755 usr/bin/sluice
755 usr/sbin/sluice-gateway
755 usr/sbin/sluice-scheduler
755 usr/sbin/sluice-verify
644 usr/lib/$triplet/libsluice.a
644 usr/lib/$triplet/pkgconfig/sluice.pc
644 usr/include/sluice/client.h
644 lib/systemd/system/sluice-gateway.service
644 lib/systemd/system/sluice-scheduler.service
644 usr/lib/sysusers.d/sluice.conf
644 usr/share/man/man1/sluice.1.gz
644 usr/share/man/man8/sluice-gateway.8.gz
644 usr/share/man/man8/sluice-scheduler.8.gz
644 usr/share/man/man8/sluice-verify.8.gz
644 usr/share/bash-completion/completions/sluice
644 usr/share/doc/sluice/copyright
644 usr/share/doc/sluice/changelog.gz
644 usr/share/doc/sluice/examples/scheduler.env
644 usr/share/doc/sluice/examples/sluice.rules.yml
644 usr/share/doc/sluice/examples/sluice.json
640 etc/sluice/scheduler.env
640 etc/sluice/gateway.env
755 DEBIAN/postinst
755 DEBIAN/prerm
755 DEBIAN/postrm
LIST
check "conffiles" test "$(sort "$work/DEBIAN/conffiles" | xargs)" = "/etc/sluice/gateway.env /etc/sluice/scheduler.env"
check "shlibs" grep -q '^libsluice 0 sluice' "$work/DEBIAN/shlibs"
check "checksums" bash -c "cd '$work' && md5sum --check --quiet DEBIAN/md5sums"
for binary in "$work"/usr/bin/* "$work"/usr/sbin/* "$work/usr/lib/$triplet"/libsluice.so.0; do
    check "$binary is stripped" test -z "$(readelf -S "$binary" | grep -F .debug_info)"
    check "$binary tells nothing of where it was built" bash -c "! grep -q -F -e '$root' '$binary'"
    check "$binary has no RUNPATH" test -z "$(readelf -d "$binary" | grep -E 'RUNPATH|RPATH')"
done
check "units name /usr/sbin" grep -q '^ExecStart=/usr/sbin/sluice-gateway' "$work/lib/systemd/system/sluice-gateway.service"
exit "$failed"
