#!/bin/bash
# Builds, tests and runs Sluice on a Debian machine: `./run.sh help` tells how.
set -euo pipefail

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)

usage() {
    cat <<'EOF'
Usage: ./run.sh [COMMAND]

  up       (the default) install what is missing, build what changed, start both programs and keep them running
  build    install what is missing, build the programs into build/bin and the client library into build/lib
  test     the same, then run every test; --sanitize (or SLUICE_TEST_SANITIZE=1) does so in a build of its own under
           AddressSanitizer and UndefinedBehaviorSanitizer; --thread runs end-to-end tests against programs that were
           built, with NNG, under ThreadSanitizer; --valgrind runs some tests, and the programs in them, under Valgrind;
           other arguments go to ctest, such as -R unit/rate
  lint     install what is missing for it, then look at the sources without running them: clang-format, shellcheck,
           cppcheck, gcc -fanalyzer and clang-tidy; names of these for some only
  bench    install what is missing for it too, then measure: figures beside other servers' in one table, and in
           build/bench/results.json; --quick for shorter rounds, --waiting N for the largest backlog (1000000), names for
           some only: post status ipc bulk dispatch jitter backlog; --markdown and --plot FILE show the last results
  fuzz     install what is missing for it too, then run each fuzzer (tests/fuzz): SECONDS of each (30), names for some
           only: body conf headers keys line message store; an input that breaks something is kept in build-fuzz/broken
  crash    install what is missing to test, then kill the programs under load, N times in all or some more (1000), at random
           moments and in each call of the write path, with and without a loss of power (tests/crash)
  sim      build, then run N (200) seeds of the simulation (tests/sim), of 10,000 steps each, on all cores; a second number
           is the first seed (1)
  package  install what is missing for it too, then make build/sluice_VERSION_ARCH.deb and let lintian look at it
  clean    remove what was built (never the data)
  help     this text

Every option of the two programs is an environment variable: --rate 1/5s is SLUICE_RATE=1/5s.
  SLUICE_DATA     where data and socket are kept (data/ beside this script)
  SLUICE_LISTEN   where the gateway listens (http://127.0.0.1:8000)
  SLUICE_WERROR   ON: warnings of the compiler are errors
EOF
}

# Exit codes as in sysexits.h.
ex_usage=64 ex_unavailable=69 ex_cantcreat=73 ex_config=78

say() {
    printf 'run.sh: %s\n' "$*" >&2
}

die() {
    local code=$1
    shift
    say "$@"
    exit "$code"
}

# --- Packages -------------------------------------------------------------------------------------------------------

build_packages=(build-essential cmake ninja-build pkg-config libcjson-dev libcurl4-openssl-dev libmbedtls-dev
    libsodium-dev libsqlite3-dev libsystemd-dev uuid-dev ca-certificates)
test_packages=(libcriterion-dev libmicrohttpd-dev nng-utils groff-base python3 systemd
    file lintian debootstrap openssl)
package_packages=(file lintian)
lint_packages=(clang-format clang-tidy cppcheck shellcheck)
fuzz_packages=(clang libclang-rt-dev llvm)
bench_packages=(wrk python3 python3-fastapi uvicorn python3-uvloop python3-httptools)

install_missing() {
    local package missing=() root_shell=(sh -c)
    command -v dpkg-query >/dev/null || return 0 # not Debian: the build says what it does not find
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0

    local command="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
    if [[ $EUID -ne 0 ]]; then
        if ! command -v sudo >/dev/null || { [[ ! -t 0 ]] && ! sudo -n true 2>/dev/null; }; then
            say "Debian packages are missing. Run this as root, then start again:"
            printf '  %s\n' "$command" >&2
            exit "$ex_unavailable"
        fi
        root_shell=(sudo sh -c)
    fi
    say "installing ${missing[*]}"
    "${root_shell[@]}" "export DEBIAN_FRONTEND=noninteractive; $command" </dev/null
}

# --- Building -------------------------------------------------------------------------------------------------------

# build PRESET TARGET...
build() {
    local preset=$1
    shift
    cd "$root"
    cmake --preset "$preset" -DSLUICE_WERROR="${SLUICE_WERROR:-OFF}" >/dev/null
    cmake --build --preset "$preset" --target "$@"
}

build_programs() {
    install_missing "${build_packages[@]}"
    build release shipped
}

# --- Package --------------------------------------------------------------------------------------------------------

# A build of its own: the prefix is /usr, and no path of this machine is to be in what is ours of the binaries.
make_package() {
    local dir=$root/build/package package
    install_missing "${build_packages[@]}" "${package_packages[@]}"
    cd "$root"
    mkdir -p "$dir"
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || date +%s)
    export SOURCE_DATE_EPOCH
    cmake -S . -B "$dir" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=/usr -DSLUICE_PACKAGE=ON \
        -DCMAKE_C_FLAGS="-ffile-prefix-map=$root=." ${SLUICE_NNG_PREFIX:+-DSLUICE_NNG_PREFIX="$SLUICE_NNG_PREFIX"} \
        >/dev/null
    cmake --build "$dir" --target shipped
    rm -f "$dir"/*.deb "$root"/build/sluice_*.deb
    (cd "$dir" && cpack)
    mv "$dir"/sluice_*.deb "$root/build"
    package=$(echo "$root"/build/sluice_*.deb)
    lintian --allow-root --fail-on error "$package"
    say "made $package"
}

# --- Tests ----------------------------------------------------------------------------------------------------------

# Counts the tests in a log of ctest: Criterion's own figures, and a program without such figures as one test; one that
# was skipped (ctest's log calls it passed) is none.
count_tests() {
    awk '
        / Testing: / { seen = skipped = tested = passed = 0 }
        /^SKIPPED: / { skipped = 1 }
        /Synthesis: Tested: / {
            seen = 1
            for (i = 1; i < NF; i++) {
                if ($i == "Tested:") tested += $(i + 1)
                if ($i == "Passing:") passed += $(i + 1)
            }
        }
        /^Test time = / { ended = 1; next }
        ended && /^Test / {
            good = /^Test Passed/
            if (!seen) { tested = !(skipped && good); passed = good && !skipped }
            failed = tested - passed
            if (!good && failed == 0) { # such as a report of a sanitizer: one of the tests is to blame
                failed = 1
                if (passed > 0) passed--
            }
            all_passed += passed; all_failed += failed; ended = 0
        }
        END { printf "%d passed, %d failed\n", all_passed, all_failed }
    ' "$1"
}

# What is set for running Sluice is not meant for the programs under test.
forget_settings() {
    local name
    for name in "${!SLUICE_@}"; do
        [[ $name == SLUICE_TEST_* ]] || unset "$name"
    done
}

# Runs ctest in the folder of a build, under the words in `under`: as many programs at a time as there are processors,
# but those alone that are about time. Leaves in `counts` how many tests passed and failed.
run_ctest() {
    local dir=$1 code=0
    shift
    rm -f "$dir/Testing/Temporary/LastTest.log"
    "${under[@]}" ctest --test-dir "$dir" --parallel "$(nproc)" --output-on-failure --no-tests=error \
        --test-output-size-passed 10000000 --test-output-size-failed 10000000 "$@" </dev/null || code=$?
    counts=$(count_tests "$dir/Testing/Temporary/LastTest.log")
    if [[ $counts == "0 passed, 0 failed" ]]; then
        say "no test was run"
        code=1
    fi
    [[ $counts == *" 0 failed" || $code -ne 0 ]] || code=1
    return "$code"
}

# The end-to-end tests of the release build that make many threads meet, against programs under ThreadSanitizer (tests of
# Criterion do not run under it themselves). Each report of it, by whichever process and whatever became of the test, is
# one more that failed.
thread_tests='^e2e/(api|delivery|exec|gateway|gateway_peer|gateway_queues|gateway_slow|idempotency|interrupt|ipc|ipc_peers|keys|loop_limits|operations|pressure|pull|restart|storm|tls|tls_remote|upgrade)$'

run_thread_tests() {
    local source=$root/build/nng/source reports=$root/build-tsan/reports code=0 counts count passed failed under=()
    install_missing "${build_packages[@]}" "${test_packages[@]}"
    build release all
    [[ -n ${SLUICE_NNG_SOURCE:-} || ! -d $source ]] || export SLUICE_NNG_SOURCE=$source
    build tsan sluice sluice-scheduler sluice-gateway sluice-verify
    if ! nm build-tsan/nng/lib/libnng.a 2>/dev/null | grep __tsan_ >/dev/null; then
        die "$ex_unavailable" "the system's NNG was used, which was not built with ThreadSanitizer: it would report what is none"
    fi
    forget_settings
    rm -rf "$reports"
    mkdir "$reports"
    export SLUICE_TEST_BIN_DIR=$root/build-tsan/bin
    export TSAN_OPTIONS="log_path=$reports/tsan second_deadlock_stack=1 suppressions=$root/tests/tsan.supp"
    # gcc 12's ThreadSanitizer cannot start where the kernel spreads addresses wider than it knows (vm.mmap_rnd_bits).
    ! setarch -R true 2>/dev/null || under=(setarch -R)
    [[ $# -gt 0 ]] || set -- -R "$thread_tests"
    run_ctest build "$@" || code=1
    count=$({ grep -h "^WARNING: ThreadSanitizer" "$reports"/* 2>/dev/null || true; } | wc -l)
    if [[ $count -gt 0 ]]; then
        cat "$reports"/*
        say "$count reports of ThreadSanitizer, see above and $reports"
        code=1
    fi
    read -r passed _ failed _ <<<"$counts"
    printf '%d passed, %d failed\n' "$passed" "$((failed + count))"
    return "$code"
}

# End-to-end tests whose programs run under Valgrind, and unit tests that do so themselves (a program is one test). An error
# or a leak, in whichever process, is one more that failed.
valgrind_tests='^e2e/(cli_queues|idempotency|ipc|keys|metrics|queues_http)$'
valgrind_units=(api conf engine_outcomes frame id json key keys lease no_memory_parse order queue_change reply request retry scope
    store_cancel store_remove store_retry units utf8)

run_valgrind_tests() {
    local dir=$root/build/valgrind code=0 counts count passed failed under=() name under_valgrind
    install_missing "${build_packages[@]}" "${test_packages[@]}" valgrind
    build release all
    forget_settings
    rm -rf "$dir"
    mkdir -p "$dir/bin" "$dir/reports"
    under_valgrind=(valgrind --quiet --trace-children=yes --num-callers=30 --leak-check=full --show-leak-kinds=definite
        --errors-for-leak-kinds=definite "--log-file=$dir/reports/%p.%n")
    for name in sluice-scheduler sluice-gateway sluice-verify sluice; do
        printf '#!/bin/sh\nexec %s %s "$@"\n' "${under_valgrind[*]@Q}" "'$root/build/bin/$name'" >"$dir/bin/$name"
        chmod +x "$dir/bin/$name"
    done
    SLUICE_TEST_BIN_DIR=$dir/bin run_ctest build -R "$valgrind_tests" "$@" || code=1
    read -r passed _ failed _ <<<"$counts"
    for name in "${valgrind_units[@]}"; do
        say "unit_$name under Valgrind"
        if "${under_valgrind[@]}" "build/tests/unit_$name" --jobs 1; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1)) code=1
        fi
    done
    count=$(find "$dir/reports" -type f -size +0 | wc -l)
    if [[ $count -gt 0 ]]; then
        find "$dir/reports" -type f -size +0 -exec cat {} +
        say "$count processes with reports of Valgrind, see above and $dir/reports"
        code=1
    fi
    printf '%d passed, %d failed\n' "$passed" "$((failed + count))"
    return "$code"
}

run_tests() {
    local preset=release dir=build code=0 counts under=()
    if [[ ${1:-} == --thread ]]; then
        shift
        run_thread_tests "$@"
        return
    fi
    if [[ ${1:-} == --valgrind ]]; then
        shift
        run_valgrind_tests "$@"
        return
    fi
    [[ -z ${SLUICE_TEST_SANITIZE:-} || $SLUICE_TEST_SANITIZE == 0 ]] || preset=asan
    if [[ ${1:-} == --sanitize ]]; then
        preset=asan
        shift
    fi
    [[ $preset == release ]] || dir=build-$preset
    install_missing "${build_packages[@]}" "${test_packages[@]}"
    build "$preset" all
    forget_settings
    run_ctest "$dir" "$@" || code=$?
    printf '%s\n' "$counts"
    return "$code"
}

# --- Lint -----------------------------------------------------------------------------------------------------------

lint_format() {
    git ls-files -z '*.c' '*.h' | xargs -0 clang-format --dry-run -Werror
}

lint_shellcheck() {
    git grep -lzE '^#!.*sh$|^# shellcheck shell=' -- ':!*.c' ':!*.py' ':!*.md' | xargs -0 shellcheck
}

# Its exit code tells of findings; a file that it cannot read to the end is one.
lint_cppcheck() {
    cppcheck --enable=warning,performance,portability --inline-suppr --suppress=missingIncludeSystem --error-exitcode=1 \
        --std=c11 -D_GNU_SOURCE -DSLUICE_VERSION='""' -I. -j "$(nproc)" --quiet common proto gateway scheduler cli
}

# Warnings of it are errors in this build.
lint_analyzer() {
    cmake --preset analyze >/dev/null &&
        cmake --build --preset analyze --target shipped
}

# The checks and why some are not made: .clang-tidy. The compiler's warnings are gcc's to tell.
lint_tidy() {
    cmake --preset dev >/dev/null &&
        run-clang-tidy -quiet -j "$(nproc)" -p build-dev -extra-arg=-Wno-everything \
            "^$root/(common|proto|gateway|scheduler|cli)/" 2>&1 | { grep -vE '^clang-tidy|^[0-9]+ warnings? generated' || true; }
}

lint() {
    local name code=0 started
    [[ $# -gt 0 ]] || set -- format shellcheck cppcheck analyzer tidy
    for name in "$@"; do
        declare -F "lint_$name" >/dev/null || bad_argument "$name"
    done
    install_missing "${build_packages[@]}" "${lint_packages[@]}"
    cd "$root"
    for name in "$@"; do
        started=$SECONDS
        if "lint_$name"; then
            say "lint $name: nothing found, $((SECONDS - started)) s"
        else
            say "lint $name: NOT CLEAN, $((SECONDS - started)) s"
            code=1
        fi
    done
    return "$code"
}

# --- Benchmark ------------------------------------------------------------------------------------------------------

run_bench() {
    install_missing "${build_packages[@]}" "${bench_packages[@]}"
    build release bench >&2
    exec /usr/bin/python3 -B "$root/tests/bench/bench.py" "$@"
}

# --- Fuzzing --------------------------------------------------------------------------------------------------------

# Runs a fuzzer for so many seconds, from the committed corpus and what earlier runs found beside it. Prints one line;
# when it broke, also the end of its output, in one piece.
fuzz() {
    local name=$1 seconds=$2 dir=build-fuzz code=0 log=build-fuzz/fuzz/$1.log found=build-fuzz/found/$1
    mkdir -p "$found" "$dir/broken"
    "$dir/fuzz/fuzz_$name" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 -use_value_profile=1 -dict=tests/fuzz/words.dict -artifact_prefix="$dir/broken/$name-" \
        "$found" "tests/fuzz/corpus/$name" </dev/null >"$log" 2>&1 || code=$?
    awk -v name="$name" '
        /^INFO: Loaded .* counters\)/ { edges = $5; gsub(/[^0-9]/, "", edges) }
        / cov: [0-9]+ / { for (i = 1; i < NF; i++) if ($i == "cov:") covered = $(i + 1) }
        /^stat::number_of_executed_units:/ { units = $2 }
        /^stat::average_exec_per_sec:/ { speed = $2 }
        END { printf "%-8s %10d executions, %6d/s, %5d of %5d edges\n", name, units, speed, covered, edges }
    ' "$log"
    [[ $code -ne 0 ]] || return 0
    {
        flock 3
        tail -n 60 "$log"
        say "fuzz_$name broke (status $code): the input is in $root/$dir/broken, all of the output in $root/$log"
    } 3>"$dir/fuzz/output.lock" >&2
    return 1
}

run_fuzz() {
    local seconds=30 names=() name code=0 cores running=0
    cores=$(nproc)
    if [[ ${1:-} =~ ^[1-9][0-9]*$ ]]; then
        seconds=$1
        shift
    fi
    cd "$root"
    for name in tests/fuzz/fuzz_*.c; do
        name=${name##*/fuzz_}
        names+=("${name%.c}")
    done
    for name in "$@"; do
        [[ " ${names[*]} " == *" $name "* ]] || bad_argument "$name"
    done
    [[ $# -eq 0 ]] || names=("$@")
    install_missing "${build_packages[@]}" "${fuzz_packages[@]}"
    build fuzz fuzz >&2
    forget_settings
    # As many side by side as there are cores, each for all of its time.
    for name in "${names[@]}"; do
        if [[ $running -eq $cores ]]; then
            wait -n || code=1
            running=$((running - 1))
        fi
        fuzz "$name" "$seconds" &
        running=$((running + 1))
    done
    for ((; running > 0; running--)); do
        wait -n || code=1
    done
    return "$code"
}

# --- Crashing -------------------------------------------------------------------------------------------------------

# Runs one of tests/crash with so many kills; what it prints, but for the programs' logs, goes to `log`, too.
crash() {
    SLUICE_CRASH_KILLS=$2 "$root/build/tests/crash_$1" 2>&1 </dev/null | tee -a "$log"
}

run_crash() {
    local kills=${1:-1000} log code=0
    [[ $kills =~ ^[1-9][0-9]*$ ]] || bad_argument "$kills"
    install_missing "${build_packages[@]}" "${test_packages[@]}"
    build release sluice-scheduler sluice-gateway sluice-verify crash_kill crash_power crash_calls crash_disk crash_freeze crash_crowd >&2
    forget_settings
    log=$(mktemp)
    crash kill "$((kills * 4 / 10 + 1))" || code=1
    crash power "$((kills * 4 / 10 + 1))" || code=1
    crash calls "$kills" || code=1 # each call there is, whatever the number
    crash disk "$((kills / 20 + 1))" || code=1
    crash crowd "$((kills / 20 + 1))" || code=1
    crash freeze "$((kills / 50 + 1))" || code=1
    awk '/, seed [0-9]+: [0-9]+ kills/ { sub(/.*, seed [0-9]+: /, ""); all += $1 } END { print all + 0 " kills in all" }' "$log"
    rm -f "$log"
    return "$code"
}

# --- Simulation -----------------------------------------------------------------------------------------------------

run_sim() {
    local count=${1:-200} first=${2:-1}
    [[ $# -le 2 ]] || bad_argument "$3"
    [[ $count =~ ^[1-9][0-9]*$ ]] || bad_argument "$count"
    [[ $first =~ ^[0-9]+$ ]] || bad_argument "$first"
    install_missing "${build_packages[@]}" "${test_packages[@]}"
    build release sim >&2
    exec "$root/build/tests/sim/sim" --seed "$first" --seeds "$count"
}

# --- Running --------------------------------------------------------------------------------------------------------

# A program that dies before it was ready, or within a second of it, died at once. The delay before the next start
# doubles with each such death in succession, and the last one ends it all.
max_quick_deaths=7

declare -A pid=() told=() ready_at=() quick=([scheduler]=0 [gateway]=0)
stopping=
first_start=yes
lock=

# Hundredths of a second on a clock that nobody sets.
uptime_cs() {
    local up rest
    read -r up rest </proc/uptime
    printf '%s' "${up/./}"
}

command_of() {
    case $1 in
    scheduler) command=("$root/build/bin/sluice-scheduler" --data "$data" --ipc "$ipc") ;;
    gateway) command=("$root/build/bin/sluice-gateway" --listen "$listen" --scheduler "$scheduler") ;;
    esac
}

# Starts a program and waits until it says that it is ready. Returns 1 when it died before.
start() {
    local name=$1 ready_in ready_out ready=0 command
    command_of "$name"
    # A FIFO without a name is a pipe: its end of file is the program's death.
    rm -f "$data/.ready"
    mkfifo -m 600 "$data/.ready"
    # shellcheck disable=SC2094
    exec {ready_in}<>"$data/.ready" {ready_out}<"$data/.ready"
    rm -f "$data/.ready"
    # Ctrl-C reaches all of a terminal's foreground: in a session of its own, a program ends when it is told, in the
    # right order. Should this script be killed, the kernel tells it.
    setsid setpriv --pdeathsig TERM "${command[@]}" --ready-fd "$ready_in" {ready_out}<&- {lock}<&- </dev/null &
    pid[$name]=$!
    unset "told[$name]"
    exec {ready_in}>&-
    read -r <&"$ready_out" || ready=$?
    exec {ready_out}<&-
    [[ $ready -eq 0 ]] || return 1
    ready_at[$name]=$(uptime_cs)
}

# How a program ended, from the status that the shell has of it.
ending() {
    local signal
    if [[ $1 -gt 128 ]] && signal=$(kill -l "$1" 2>/dev/null); then
        printf 'was ended by SIG%s' "$signal"
    else
        printf 'ended with status %s' "$1"
    fi
}

# Waits for the end of a program, whatever signals arrive meanwhile. Leaves its status in `code`.
reap() {
    local name=$1
    code=0
    wait "${pid[$name]}" 2>/dev/null || code=$?
    while kill -0 "${pid[$name]}" 2>/dev/null; do
        code=0
        wait "${pid[$name]}" 2>/dev/null || code=$?
    done
    unset "pid[$name]"
}

tell_to_end() {
    kill -TERM "${pid[$1]}" 2>/dev/null || true
    told[$1]=yes
}

# Ends what runs: first the gateway, so that nothing is accepted that the scheduler would have to refuse. Returns 1 when
# one did not end well.
stop_all() {
    local name code result=0
    stopping=yes
    for name in gateway scheduler; do
        [[ -n ${pid[$name]:-} ]] || continue
        [[ -n ${told[$name]:-} ]] || tell_to_end "$name"
        reap "$name"
        if [[ $code -ne 0 ]]; then
            say "the $name $(ending "$code")"
            result=1
        fi
    done
    return "$result"
}

give_up() {
    local code=$1
    shift
    say "$@"
    stop_all || true
    exit "$((code == 0 ? 1 : code))"
}

# Tells the next one to end; the loop sees to the rest. It need not be running: then its delay is cut short.
on_signal() {
    local name
    stopping=yes
    for name in gateway scheduler delay; do
        if [[ -n ${pid[$name]:-} ]]; then
            tell_to_end "$name"
            break
        fi
    done
}

# Takes note of the death of a program with this status, and waits as long as is due before its next start.
after_death() {
    local name=$1 code=$2 lived=-1 delay
    [[ -z ${ready_at[$name]:-} ]] || lived=$(($(uptime_cs) - ready_at[$name]))
    unset "ready_at[$name]"
    [[ -z $stopping ]] || return 0
    if [[ -n $first_start ]]; then
        case $code in
        "$ex_usage" | "$ex_unavailable" | "$ex_cantcreat" | "$ex_config")
            give_up "$code" "the $name cannot start (status $code, see above)"
            ;;
        esac
    fi
    if [[ $lived -ge 100 ]]; then
        quick[$name]=0
    elif [[ $((++quick[$name])) -ge $max_quick_deaths ]]; then
        give_up "$code" "the $name died at once $max_quick_deaths times in succession, and last $(ending "$code"): giving up"
    fi
    delay=$((100 << quick[$name]))
    say "the $name $(ending "$code"): starting it again in $delay ms"
    sleep "$((delay / 1000)).$(printf %03d $((delay % 1000)))" {lock}<&- &
    pid[delay]=$!
    wait "${pid[delay]}" || true
    unset "pid[delay]"
}

bring_up() {
    local name=$1 code
    until [[ -n $stopping ]] || start "$name"; do
        reap "$name"
        after_death "$name" "$code"
    done
}

# Waits until a program has ended. Leaves its name in `name` and its status in `code`.
await_death() {
    local dead=''
    # bash does not wait for one of whose end it has told (on standard error) while another command ran.
    for name in "${!pid[@]}"; do
        if ! kill -0 "${pid[$name]}" 2>/dev/null; then
            reap "$name"
            return 0
        fi
    done
    code=0
    wait -n -p dead "${pid[@]}" 2>/dev/null || code=$? # bash would tell of signals in its own way
    for name in "${!pid[@]}"; do
        if [[ ${pid[$name]} == "${dead:-}" ]]; then
            unset "pid[$name]"
            return 0
        fi
    done
    return 1 # a signal
}

# Restarts whatever dies, until told to stop.
supervise() {
    local name code
    while [[ -z $stopping ]]; do
        if await_death; then
            after_death "$name" "$code"
            bring_up "$name"
        fi
    done
    stop_all
}

prepare_data() {
    data=${SLUICE_DATA:-$root/data}
    if [[ ! -d $data ]]; then
        mkdir -p "$(dirname "$data")" || die "$ex_cantcreat" "cannot create $data"
        mkdir -m 750 "$data" || die "$ex_cantcreat" "cannot create $data"
    fi
    data=$(cd "$data" && pwd) || die "$ex_cantcreat" "cannot enter $data"
    ipc=${SLUICE_IPC:-ipc://$data/sluice.sock}
    scheduler=${SLUICE_SCHEDULER:-$ipc}
    listen=${SLUICE_LISTEN:-http://127.0.0.1:8000}
    local socket=${ipc#ipc://} LC_ALL=C
    if [[ ${#socket} -gt 107 ]]; then
        die "$ex_config" "the path of the socket, $socket, has ${#socket} bytes, and a Unix socket's at most 107:" \
            "set SLUICE_DATA or SLUICE_IPC to a shorter one"
    fi
    { exec {lock}>"$data/run.lock"; } 2>/dev/null || die "$ex_cantcreat" "cannot write to $data"
    flock -n "$lock" || die "$ex_unavailable" "Sluice runs already on $data"
}

announce() {
    local url=${listen%/}
    url=${url/0.0.0.0/127.0.0.1}
    cat <<EOF
Sluice listens on $listen and keeps its data in $data. Try:
  curl -sS $url/ingest ${SLUICE_KEYS:+-H 'Authorization: Bearer KEY' }-H 'Content-Type: application/json' -d '{"ids":[1,2,3,4,5],"priority":"HIGH"}'
EOF
}

up() {
    prepare_data
    build_programs
    trap on_signal HUP INT TERM
    bring_up scheduler
    bring_up gateway
    first_start=
    [[ -n $stopping ]] || announce
    supervise
}

bad_argument() {
    say "\"$1\" is no argument here; options are environment variables, such as SLUICE_RATE=1/5s"
    usage >&2
    exit "$ex_usage"
}

case ${1:-up} in
up | build | clean | package) [[ $# -le 1 ]] || bad_argument "$2" ;;
esac
case ${1:-up} in
up) up ;;
build) build_programs ;;
package) make_package ;;
test) run_tests "${@:2}" ;;
lint) lint "${@:2}" ;;
bench) run_bench "${@:2}" ;;
fuzz) run_fuzz "${@:2}" ;;
crash) run_crash "${@:2}" ;;
sim) run_sim "${@:2}" ;;
clean) rm -rf "$root"/build "$root"/build-* ;;
help | -h | --help) usage ;;
*) bad_argument "$1" ;;
esac
