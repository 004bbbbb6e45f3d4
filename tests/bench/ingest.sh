#!/bin/bash
# POST /ingest, durable, beside NNG's own HTTP server with a fixed answer: interleaved rounds, medians, and their ratio.
#
#   tests/bench/ingest.sh [BUILD_DIR] [ROUNDS] [SECONDS]     (build, 5, 4); needs wrk
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
build=${1:-$here/../../build} rounds=${2:-5} seconds=${3:-4}
bin=$(readlink -f "$build/bin") data=$(mktemp -d) failed=0

stop() {
    kill "${scheduler:-}" "${gateway:-}" 2>/dev/null || true
    rm -rf "$data"
}
trap stop EXIT

# start NAME PROGRAM ARG... : returns when the program says that it is ready.
start() {
    local ready=$data/ready
    mkfifo "$ready"
    "${@:1}" --ready-fd 9 9>"$ready" 2>"$data/log.${1##*/}" &
    read -r -t 30 _ <"$ready" || { cat "$data"/log.*; exit 1; }
    rm "$ready"
}

port=$((20000 + RANDOM % 20000))
start "$bin/sluice-scheduler" --data "$data/store"
scheduler=$!
start "$bin/sluice-gateway" --listen "http://127.0.0.1:$port" --scheduler "ipc://$data/store/sluice.sock"
gateway=$!
coproc CEILING { exec "$bin/nng_fixed" "http://127.0.0.1:$((port + 1))"; }
read -r -t 30 _ <&"${CEILING[0]}"

# one CONNECTIONS PORT : requests/s, median and 99th percentile in microseconds, errors
one() {
    wrk -t2 -c"$1" -d"${seconds}s" -s "$here/post.lua" "http://127.0.0.1:$2/ingest" | sed -n 's/^result //p'
}

median() {
    sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

one 64 "$port" >/dev/null # warm-up
one 64 $((port + 1)) >/dev/null
printf '%-12s %12s %12s %8s %16s %10s\n' connections 'Sluice /s' 'NNG /s' ratio 'p50/p99 us' errors
for connections in 64 256; do
    : >"$data/ours" >"$data/theirs"
    for ((i = 0; i < rounds; i++)); do
        one "$connections" "$port" >>"$data/ours"
        one "$connections" $((port + 1)) >>"$data/theirs"
    done
    ours=$(cut -d' ' -f1 "$data/ours" | median) theirs=$(cut -d' ' -f1 "$data/theirs" | median)
    errors=$(awk '{ n += $4 } END { print n }' "$data/ours" "$data/theirs")
    printf '%-12s %12s %12s %8s %16s %10s\n' "$connections" "$ours" "$theirs" \
        "$(awk "BEGIN { printf \"%.2f\", $ours / $theirs }")" \
        "$(cut -d' ' -f2 "$data/ours" | median)/$(cut -d' ' -f3 "$data/ours" | median)" "$errors"
    [[ $errors == 0 ]] || failed=1
done
exit "$failed"
