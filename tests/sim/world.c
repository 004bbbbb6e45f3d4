// The world around one scheduler: the clocks, the wait of its loop, its socket, its starts and its ends.
#include "tests/sim/check.h"

#include "common/log.h"
#include "scheduler/settings.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

// ---- clocks ----

struct mono sim_now(void)
{
    return sim.now;
}

struct wall sim_wall(void)
{
    return (struct wall){sim.now.ns / NS_PER_MS + sim.wall_offset_ms};
}

SIM_WRAP(struct mono, mono_now, void)
{
    return sim_now();
}

SIM_WRAP(struct wall, wall_now, void)
{
    return sim_wall();
}

SIM_WRAP(enum err, clock_boot_id, struct id *boot)
{
    *boot = sim.boot;
    return ERR_OK;
}

SIM_WRAP(ssize_t, getrandom, void *bytes, size_t len, unsigned flags)
{
    (void)flags;
    for (size_t i = 0; i < len; i++) {
        ((unsigned char *)bytes)[i] = (unsigned char)random_next(&sim.random);
    }
    return (ssize_t)len;
}

SIM_WRAP(void, log_line, enum log_level level, const char *module, const char *event, const char *pairs, ...)
{
    (void)level;
    if (sim.tracing) {
        va_list args;
        va_start(args, pairs);
        printf("    log: %s %s ", module, event);
        if (pairs != NULL) {
            (void)vprintf(pairs, args);
        }
        (void)putchar('\n');
        va_end(args);
    }
}

static void set_wall(int64_t by_ms)
{
    sim.wall_offset_ms += by_ms;
    sim.wall_cancelled = sim.wall_cancelled || sim.wake_wall_ms != DUE_NEVER;
    sim_note("the clock is set by ms", by_ms, 0, 0);
}

// ---- the socket ----

SIM_WRAP(enum err, ipc_open, const char *url, struct inbox *inbox, struct ipc **ipc, struct fault *fault)
{
    (void)url, (void)inbox, (void)fault;
    *ipc = NULL;
    return ERR_OK;
}

SIM_WRAP(void, ipc_close, struct ipc *ipc)
{
    (void)ipc;
}

SIM_WRAP(enum err, ipc_keep, struct ipc_message *message)
{
    (void)message;
    return ERR_OK;
}

SIM_WRAP(void, ipc_reply, struct ipc_message *message, struct buf *lines)
{
    CHECK(!model_in_transaction(), "a reply before the commit");
    clients_replied(message, sim.dead ? NULL : lines->data, lines->len);
    buf_reset(lines);
}

// ---- faults ----

static bool healthy(void)
{
    const struct loop *loop = sim.loop;
    return !loop->failing && !loop->cut_off && !mono_before(sim.now, loop->blocked_until) && !loop->ending;
}

static void plan_blow(void)
{
    static const enum blow hard[] = {BLOW_ASLEEP,       BLOW_CALL,         BLOW_CALL, BLOW_BEFORE_COMMIT,
                                     BLOW_IN_COMMIT,    BLOW_AFTER_COMMIT, BLOW_LIED, BLOW_IN_COMMIT,
                                     BLOW_AFTER_COMMIT, BLOW_STOP};
    if (sim.blow != BLOW_NONE || sim.loop->ending) {
        return;
    }
    if (sim_chance(250)) {
        sim.blow = hard[sim_below(sizeof hard / sizeof hard[0])];
        sim.blow_in = 1 + sim_below(sim.blow == BLOW_IN_COMMIT ? 30 : 10);
        sim.power_lost = sim_chance(2);
        sim.reboot = sim.power_lost && sim_chance(2);
    } else if (sim_chance(200)) {
        sim.blow = sim_chance(3) ? BLOW_LIED_MILDLY : BLOW_MILD_CALL;
        sim.blow_in = 1 + sim_below(10);
    }
}

void world_late_start(void)
{
    static const enum blow hard[] = {BLOW_ASLEEP, BLOW_BEFORE_COMMIT, BLOW_IN_COMMIT, BLOW_CALL};
    if (sim.blow == BLOW_NONE && !sim.loop->ending && !mono_before(sim.now, sim.calm_until) &&
        sim_chance(4)) {
        sim.blow = sim_chance(3) ? BLOW_MILD_CALL : hard[sim_below(sizeof hard / sizeof hard[0])];
        sim.blow_in = 1 + sim_below(4);
        sim.power_lost = sim_chance(2);
    }
}

static void plan_faults(void)
{
    if (mono_before(sim.now, sim.calm_until)) {
        return;
    }
    plan_blow();
    if (sim_chance(400)) {
        sim.full_until = mono_add(sim.now, sim_between_ms(1, 3000));
        sim_note("the disk is full", 0, 0, 0);
    }
    if (sim_chance(100)) {
        int64_t most_ms = sim_chance(8) ? 3600 * 1000 : 2000;
        set_wall(sim_between_ms(0, most_ms * 2) / NS_PER_MS - most_ms);
    }
    if (sim_chance(200) && sim.blow == BLOW_NONE && healthy()) {
        sim.calm_until = mono_add(sim.now, 80 * sim.client_mean_ns);
        sim.full_until = sim.now;
        disk_full(false); // or the turn before the first wait would still find it full
        eta_calm_begins();
        sim_note("calm", 0, 0, 0);
    }
}

// ---- the wait ----

static struct {
    bool timed; // the last wait ended by a timer alone
    bool excused;
    uint64_t events;
    int64_t wakes[5]; // what asked for it
} last;

static struct mono wall_moment(void)
{
    if (sim.wake_wall_ms == DUE_NEVER) {
        return MONO_NEVER;
    }
    return (struct mono){(sim.wake_wall_ms - sim.wall_offset_ms) * NS_PER_MS};
}

static void check_wait(void)
{
    sim.commits = 0;
    struct mono until = mono_min(sim.wake, wall_moment());
    CHECK(!last.timed || last.excused || !healthy() || sim.lied || sim.events > last.events,
          "wake: it was woken for nothing (engine %" PRId64 ", wall %" PRId64 " ms, leases %" PRId64
          ", removal %" PRId64 "; at %" PRId64 ", it was to be %" PRId64 ")",
          last.wakes[0], last.wakes[1], last.wakes[2], last.wakes[3], sim.now.ns, last.wakes[4]);
    if (healthy()) {
        CHECK(target_unsettled() == 0, "an outcome is not settled");
        check_sleep(until);
    }
}

// Moves time on to what happens next, and lets it happen.
static void pass_time(void)
{
    struct mono timer = mono_min(sim.wake, wall_moment());
    struct mono other = mono_min(sim.client_at, target_next());
    last.timed = timer.ns < other.ns;
    last.events = sim.events;
    last.wakes[0] = engine_wake(sim.loop->engine).ns;
    last.wakes[1] = engine_wake_wall_ms(sim.loop->engine);
    last.wakes[2] = leases_wake(sim.loop->leases).ns;
    last.wakes[3] = retain_wake(sim.loop).ns;
    last.wakes[4] = timer.ns;
    // A turn may have dispatched more since it was planned, and that has not started.
    last.excused = !healthy() || timer.ns == sim.loop->confirm_at.ns;
    struct mono next = mono_min(timer, other);
    bool removal = timer.ns == last.wakes[3]; // which a slot that has come near puts off
    if (last.timed && !removal && !mono_before(sim.now, sim.calm_until) && sim_chance(4)) {
        next = mono_add(next, sim_between_ms(0, 2)); // a busy machine
    }
    sim.now = mono_max(sim.now, next);
    disk_full(mono_before(sim.now, sim.full_until));
    if (last.timed) {
        sim_note("timer", 0, 0, 0);
    } else if (target_next().ns <= sim.client_at.ns) {
        target_run();
    } else {
        clients_move();
    }
}

SIM_WRAP(int, epoll_wait, int epoll, struct epoll_event *events, int max, int timeout)
{
    (void)timeout;
    int posted = __real_epoll_wait(epoll, events, max, 0);
    if (posted != 0) { // while a commit took its time
        last.timed = false;
        return posted;
    }
    check_wait();
    sim.step++;
    if (sim.step >= sim.steps || sim.blow == BLOW_ASLEEP) {
        sim_note("killed asleep", 0, 0, 0);
        sim.dead = true;
        sim.blow = BLOW_NONE;
        errno = EBADF;
        return -1;
    }
    if (sim.blow == BLOW_STOP) {
        sim_note("told to end", 0, 0, 0);
        sim.blow = BLOW_NONE;
        (void)eventfd_write(sim.loop->signals, 1);
        last.timed = false;
        return 1;
    }
    pass_time();
    plan_faults();
    if (sim.wall_cancelled) {
        last.excused = true;
    }
    return 1;
}

SIM_WRAP(int, timerfd_create, int clock, int flags)
{
    int fd = __real_timerfd_create(clock, flags);
    *(clock == CLOCK_REALTIME ? &sim.wall_timer : &sim.timer) = fd;
    return fd;
}

SIM_WRAP(int, timerfd_settime, int fd, int flags, const struct itimerspec *when, struct itimerspec *old)
{
    (void)flags, (void)old;
    int64_t ns = when->it_value.tv_sec * NS_PER_S + when->it_value.tv_nsec;
    if (fd == sim.timer) {
        sim.wake = ns == 0 ? MONO_NEVER : (struct mono){ns};
        return 0;
    }
    sim.wake_wall_ms = ns == 0 ? DUE_NEVER : ns / NS_PER_MS;
    if (sim.wall_cancelled) { // as timerfd_create(2) has it of TFD_TIMER_CANCEL_ON_SET
        sim.wall_cancelled = false;
        errno = ECANCELED;
        return -1;
    }
    return 0;
}

// ---- lives ----

static void random_flags(struct queue_change *flags)
{
    if (flags->target == NULL || sim_chance(8)) {
        queue_change_fini(flags);
        clients_random_settings(flags);
        flags->max_id = ID_VALUE_MAX;
        free(flags->target);
        flags->target = strdup(sim_chance(3) ? "simulate:40ms" : sim_chance(4) ? "pull:" : "http://target/");
    }
}

// The clocks, and how long it takes until there is a process again.
static void between_lives(void)
{
    sim.now = mono_add(sim.now, sim_between_ms(5, sim_chance(4) ? 5000 : 100));
    if (sim.reboot) {
        int64_t wall_ms = sim_wall().ms;
        sim.now = (struct mono){sim_between_ms(5000, 20000)};
        sim.wall_offset_ms = wall_ms + sim_between_ms(0, 60000) / NS_PER_MS - sim.now.ns / NS_PER_MS;
        (void)__wrap_getrandom(&sim.boot, sizeof sim.boot, 0);
        sim.client_at = sim.now;
        sim_note("another boot", 0, 0, 0);
    }
    sim.power_lost = sim.reboot = false;
    sim.full_until = mono_min(sim.full_until, mono_add(sim.now, 3 * NS_PER_S));
    sim.calm_until = sim.now;
    sim.client_at = mono_max(sim.client_at, sim.now);
}

static void forget_process(void)
{
    sim.loop = NULL;
    sim.blow = BLOW_NONE;
    sim.wake = MONO_NEVER;
    sim.wake_wall_ms = DUE_NEVER;
    sim.wall_cancelled = false;
    last.timed = false;
    model_rollback();
}

static void live(const char *dir, struct queue_change *flags, int64_t retain_ns, uint64_t max_waiting)
{
    struct fault fault = {.detail = ""};
    struct loop loop = {.max_waiting = max_waiting, .ipc_url = "ipc://sim", .ready_fd = -1};
    forget_process();
    sim.dead = sim.reported = sim.spoiled = sim.lied = false;
    sim.lives++;
    sim_note("a start", (int64_t)sim.lives, 0, 0);
    enum err err = store_sqlite_open(dir, &loop.store, &fault);
    CHECK(err == ERR_OK, "the store cannot be opened: %s", fault.detail);
    model_settle(loop.store);
    random_flags(flags);
    err = settings_apply(loop.store, flags, sim.now, sim_wall());
    CHECK(err == ERR_OK, "the settings cannot be applied: %s", err_name(err));
    retain_init(&loop.retention, retain_ns);
    loop.signals = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    sim.loop = &loop;
    if (sim_chance(10)) {
        sim.blow = BLOW_CALL; // while it recovers, or soon after
        sim.blow_in = 1 + sim_below(4);
    }
    int code = loop_run(&loop);
    bool killed = sim.dead || sim.reported || (sim.spoiled && code != 0);
    CHECK(killed || code == 0, "step %" PRIu64 ": the loop ended with code %d", sim.step, code);
    sim.loop = NULL;
    model_rollback();
    clients_forget();
    disk_full(false);
    if (killed) {
        disk_crash(sim.power_lost);
    }
    store_close(loop.store);
    disk_start();
    close(loop.signals);
    between_lives();
}

void world_run(const char *dir)
{
    static const int64_t means_ms[] = {5, 20, 60, 200};
    struct queue_change flags = {.given = 0};
    sim.now = (struct mono){sim_between_ms(100000, 200000)};
    sim.wall_offset_ms = INT64_C(1790000000000);
    sim.client_mean_ns = means_ms[sim_below(4)] * NS_PER_MS;
    sim.slow_commits = sim_chance(2);
    sim.slow_starts = sim_chance(2);
    (void)__wrap_getrandom(&sim.boot, sizeof sim.boot, 0);
    int64_t retain_ns = sim_chance(4) ? RETAIN_FOREVER : sim.client_mean_ns * (int64_t)(50 + sim_below(200));
    retain_ns = retain_ns == RETAIN_FOREVER ? 100 * NS_PER_S : retain_ns;
    sim.retain_ns = retain_ns;
    uint64_t max_waiting = 40 + sim_below(160);
    disk_install();
    while (sim.step < sim.steps) {
        live(dir, &flags, retain_ns, max_waiting);
    }
    queue_change_fini(&flags);
}
