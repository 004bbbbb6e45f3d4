#!/bin/bash
# Installs the package in a Debian of its own (debootstrap), uses it there, installs it again, removes and purges it. No
# systemd runs in it: the programs are started by hand, as the units would.
# Usage: chroot.sh BUILD_DIR (with the package, made by contents.sh). What was downloaded is kept in BUILD_DIR/package.
set -euo pipefail

skip() {
    echo "SKIPPED: $*"
    exit 77
}
die() {
    echo "FAILED: $*"
    exit 1
}

# In a namespace of processes and mounts: all of them end with this script, whatever becomes of it.
if [[ ${2:-} != inside ]]; then
    [[ $EUID -eq 0 ]] || skip "only root can make a chroot"
    command -v debootstrap >/dev/null || skip "no debootstrap here"
    unshare --mount --pid --fork true 2>/dev/null || skip "no namespaces here"
    exec unshare --mount --pid --fork --kill-child "${BASH_SOURCE[0]}" "$1" inside
fi

package=$(echo "$1"/sluice_*.deb)
[[ -r $package ]] || die "no package in $1"
base=$1/package/base
root=$1/package/root
log=$1/package/chroot.log
: >"$log"

logged() {
    "$@" >>"$log" 2>&1 || { tail -n 40 "$log"; return 1; }
}
clean=(env DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot)
inside() {
    "${clean[@]}" "$root" "$@"
}
# With a user's name after it: arrays, so that $! is the program.
as=("${clean[@]}" "$root" setpriv --regid sluice --clear-groups --reuid)
step() { echo "$SECONDS s: $*"; }

# A Debian with nothing but what the package depends on, made once for these dependencies.
make_base() {
    local wanted codename mirror
    wanted=$(dpkg-deb --field "$package" Depends | sed -E 's/ *\([^)]*\)//g; s/ *\|[^,]*//g; s/, */ /g')
    [[ $(cat "$base/.made" 2>/dev/null) != "$wanted" ]] || return 0
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    # shellcheck disable=SC2016 # apt's own
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v release="$codename" '$2 == release && $3 == "main" { print $1; exit }')
    [[ -n $mirror ]] || skip "apt has no mirror of Debian $codename"
    rm -rf "$base"
    logged debootstrap --variant=minbase "$codename" "$base" "$mirror" || skip "debootstrap failed: no network?"
    step "debootstrap is done"
    root=$base logged inside sh -c "apt-get install -y --no-install-recommends $wanted && apt-get clean" ||
        skip "the dependencies cannot be had"
    printf '%s\n' "$wanted" >"$base/.made"
}

# Users stay after a purge; dpkg, ldconfig and the logs have files of their own.
files() {
    inside find / -xdev \( -path /proc -o -path /var/log -o -path /var/cache -o -path /var/lib/dpkg -o -path /tmp \) \
        -prune -o -print | grep -vE '^/etc/(passwd|group|shadow|gshadow)-?$|^/etc/\.pwd\.lock$|^/run' | sort
}

start_both() {
    inside install -d -o sluice -g sluice -m 750 /run/sluice
    inside install -d -o sluice -g sluice -m 700 /var/lib/sluice
    mkfifo "$root/tmp/ready"
    exec {ready}<>"$root/tmp/ready"
    "${as[@]}" sluice /usr/sbin/sluice-scheduler --data /var/lib/sluice --ipc ipc:///run/sluice/sluice.sock \
        --target simulate:10ms --rate 100/s --ready-fd "$ready" 2>>"$log" &
    scheduler=$!
    read -r -t 60 <&"$ready" || die "the scheduler is not ready"
    "${as[@]}" sluice-gateway /usr/sbin/sluice-gateway --listen "$url" --scheduler ipc:///run/sluice/sluice.sock \
        --ready-fd "$ready" 2>>"$log" &
    gateway=$!
    read -r -t 60 <&"$ready" || die "the gateway is not ready"
    exec {ready}>&-
    rm "$root/tmp/ready"
}

stop_both() {
    kill "$gateway"
    wait "$gateway" || die "the gateway did not end well"
    kill "$scheduler"
    wait "$scheduler" || die "the scheduler did not end well"
}

use() {
    /usr/bin/python3 - "$url" <<'PYTHON'
import json, sys, time, urllib.request
url = sys.argv[1]
request = urllib.request.Request(url + "/ingest", b'{"ids":[1,2,3,4,5],"priority":"HIGH"}', {"Content-Type": "application/json"})
with urllib.request.urlopen(request, timeout=60) as answer:
    assert answer.status == 200
    ingestion = json.load(answer)["ingestion_id"]
until = time.monotonic() + 120
while True:
    status = json.load(urllib.request.urlopen(url + "/status/" + ingestion, timeout=60))["status"]
    if status == "completed":
        break
    assert time.monotonic() < until, status
    time.sleep(0.05)
PYTHON
}

make_base
rm -rf "$root"
cp -a "$base" "$root"
rm "$root/.made"
mount -t proc proc "$root/proc"
port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
files >"$1/package/before"

step "installing"
cp "$package" "$root/tmp/sluice.deb"
logged inside apt-get install -y --no-install-recommends /tmp/sluice.deb || die "it cannot be installed"
for unit in scheduler gateway; do
    [[ -L $root/etc/systemd/system/multi-user.target.wants/sluice-$unit.service ]] || die "the $unit is not enabled"
done
inside systemd-analyze verify --man=no /lib/systemd/system/sluice-{scheduler,gateway}.service >>"$log" 2>&1 ||
    { tail -n 20 "$log"; die "systemd does not take the units"; }

step "using"
start_both
use || die "an ingestion was not completed"
"${as[@]}" sluice sluice ping >>"$log" || die "sluice ping"
stop_both
"${as[@]}" sluice sluice-verify --data /var/lib/sluice >>"$log" || die "sluice-verify"

step "installing again"
echo 'SLUICE_RATE=7/s' >>"$root/etc/sluice/scheduler.env"
inside systemctl disable sluice-gateway.service >>"$log" 2>&1
logged inside dpkg -i /tmp/sluice.deb || die "it cannot be installed again"
grep -q '^SLUICE_RATE=7/s$' "$root/etc/sluice/scheduler.env" || die "the operator's options are gone"
[[ ! -L $root/etc/systemd/system/multi-user.target.wants/sluice-gateway.service ]] || die "it enabled what was disabled"

step "removing"
logged inside dpkg --remove sluice || die "it cannot be removed"
[[ ! -e $root/usr/sbin/sluice-scheduler && -e $root/etc/sluice/scheduler.env ]] || die "removed too little or too much"
[[ -n $(ls "$root/var/lib/sluice") ]] || die "the store went with a removal"
logged inside dpkg --purge sluice || die "it cannot be purged"
rm "$root/tmp/sluice.deb"
files >"$1/package/after"
diff "$1/package/before" "$1/package/after" || die "these files are left behind, or missing"
umount "$root/proc"
rm -rf "$root"
step "done"
