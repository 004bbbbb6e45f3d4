#include "scheduler/loop.h"

#include "common/conf.h"
#include "common/log.h"
#include "common/proc.h"
#include "scheduler/turn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define LAST_REPLIES_NS (1 * NS_PER_S) // what was received before the end gets this long to be answered
#define MS_PER_S 1000
#define DRAIN_NS (10 * NS_PER_S) // deliveries in flight get this long at the end

static void append(struct inbox_item ***end, struct inbox_item *item)
{
    item->next = NULL;
    **end = item;
    *end = &item->next;
}

static void demand_changed(void *user, int64_t queue, uint32_t demand)
{
    const struct loop *loop = user;
    (void)demand;
    update_demand(loop, queue);
}

static void connection_gone(struct loop *loop, struct ipc_gone *gone)
{
    leases_drop_pipe(loop->leases, gone->pipe, demand_changed, loop);
    free(gone);
}

void loop_take(struct loop *loop)
{
    for (struct inbox_item *item = inbox_take(loop->inbox), *next; item != NULL; item = next) {
        next = item->next;
        switch (item->kind) {
        case INBOX_MESSAGE:
            append(&loop->messages_end, item);
            break;
        case INBOX_DONE:
            append(&loop->done_end, item);
            break;
        case INBOX_STARTED:
            append(&loop->starts_end, item);
            break;
        case INBOX_GONE:
            connection_gone(loop, container_of(item, struct ipc_gone, item));
            break;
        }
    }
}

// ---- waiting ----

struct wait {
    int epoll;
    int timer;      // on the monotonic clock
    int wall_timer; // on the wall clock; a step of it wakes, too
    bool wall_armed;
};

static bool wait_add(const struct wait *wait, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data = {.fd = fd}};
    return epoll_ctl(wait->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static enum err wait_open(struct wait *wait, const struct loop *loop)
{
    wait->epoll = epoll_create1(EPOLL_CLOEXEC);
    wait->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    wait->wall_timer = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (wait->epoll < 0 || wait->timer < 0 || wait->wall_timer < 0 || !wait_add(wait, wait->timer) ||
        !wait_add(wait, wait->wall_timer) || !wait_add(wait, inbox_fd(loop->inbox)) ||
        !wait_add(wait, loop->signals)) {
        return ERR_INTERNAL;
    }
    return ERR_OK;
}

static void wait_close(struct wait *wait)
{
    if (wait->epoll >= 0) {
        close(wait->epoll);
    }
    if (wait->timer >= 0) {
        close(wait->timer);
    }
    if (wait->wall_timer >= 0) {
        close(wait->wall_timer);
    }
}

// Sets a timer to a moment, or disarms it (DUE_NEVER).
static bool set_timer(int timer, int flags, int64_t at, int64_t per_s)
{
    struct itimerspec when = {.it_value = {0, 0}};
    if (at != DUE_NEVER) {
        int64_t moment = at > 0 ? at : 1; // 0 would disarm it
        when.it_value.tv_sec = moment / per_s;
        when.it_value.tv_nsec = moment % per_s * (NS_PER_S / per_s);
    }
    return timerfd_settime(timer, TFD_TIMER_ABSTIME | flags, &when, NULL) == 0;
}

// Sleeps until something reaches the inbox, a signal comes or one of the moments is there.
static enum err wait_until(struct wait *wait, struct mono wake, int64_t wake_wall_ms)
{
    if (!set_timer(wait->timer, 0, wake.ns, NS_PER_S)) {
        return ERR_INTERNAL;
    }
    // It is set again only to change it: most of the time nothing waits for the wall clock.
    if (wake_wall_ms != DUE_NEVER || wait->wall_armed) {
        wait->wall_armed = wake_wall_ms != DUE_NEVER;
        if (!set_timer(wait->wall_timer, TFD_TIMER_CANCEL_ON_SET, wake_wall_ms, MS_PER_S)) {
            return errno == ECANCELED ? ERR_OK : ERR_INTERNAL; // the clock was set: look at it anew
        }
    }
    log_flush();
    struct epoll_event event;
    int n = epoll_wait(wait->epoll, &event, 1, -1);
    return n >= 0 || errno == EINTR ? ERR_OK : ERR_INTERNAL;
}

// ---- the loop ----

// Reads again what was read from files: the options are not, which a running process cannot have anew.
static void reload(const struct loop *loop)
{
    struct fault fault;
    if (loop->tls == NULL || loop->ipc == NULL) {
        log_line(LOG_LEVEL_INFO, "loop", "reloaded", "changed=nothing");
    } else if (ipc_reload(loop->ipc, &fault) != ERR_OK) {
        log_line(LOG_LEVEL_ERROR, "loop", "not_reloaded", "in_force=\"the certificate before\" reason=%s",
                 log_quote(fault.detail, &(struct log_text){0}));
    } else {
        log_line(LOG_LEVEL_INFO, "loop", "reloaded", "changed=\"the certificate\"");
    }
}

// Whether a signal says to end.
static bool told_to_end(const struct loop *loop)
{
    enum proc_order order;
    while ((order = proc_take_signal(loop->signals)) == PROC_RELOAD) {
        reload(loop);
    }
    return order == PROC_END;
}

// What came too late to be taken: a reply on a closed socket only frees it.
static void discard_messages(struct loop *loop)
{
    loop_take(loop);
    for (struct inbox_item *item = loop->messages, *next; item != NULL; item = next) {
        struct buf nothing;
        buf_init(&nothing);
        next = item->next;
        ipc_reply(message_of(item), &nothing);
        buf_fini(&nothing);
    }
    loop->messages = NULL;
    loop->messages_end = &loop->messages;
}

// No new work from here on: what was received is answered, the socket goes, and what is in flight is waited
// for.
static enum err begin_ending(struct loop *loop)
{
    log_line(LOG_LEVEL_INFO, "loop", "ending", "in_flight=%zu", loop->live_count);
    proc_stopping();
    enum err err = ERR_OK;
    struct mono patience = mono_add(mono_now(), LAST_REPLIES_NS);
    do {
        err = turn(loop, mono_now());
    } while (err == ERR_OK && loop->messages != NULL && mono_before(mono_now(), patience));
    loop->ending = true;
    reply_leases(loop, leases_take_idle(loop->leases, MONO_NEVER));
    ipc_close(loop->ipc);
    loop->ipc = NULL;
    discard_messages(loop);
    return err;
}

// While the store has no room nothing can be done about what is due.
static int64_t wall_wake(const struct loop *loop)
{
    return loop->failing ? DUE_NEVER : engine_wake_wall_ms(loop->engine);
}

static enum err serve(struct loop *loop, struct wait *wait)
{
    struct mono deadline = MONO_NEVER;
    for (;;) {
        if (told_to_end(loop) && !loop->ending) {
            enum err err = begin_ending(loop);
            if (err != ERR_OK) {
                return err;
            }
            deadline = mono_add(mono_now(), DRAIN_NS);
        }
        struct mono now = mono_now();
        watchdog_feed(&loop->watchdog, now);
        (void)targets_run(loop->targets, now);
        enum err err = turn(loop, now);
        if (err != ERR_OK) {
            return err;
        }
        bool drained = loop->live_count == loop->leased_count; // a lease outlives this process
        if (loop->ending && (drained || !mono_before(mono_now(), deadline))) {
            return loop->done == NULL ? ERR_OK : ERR_STORAGE_FULL;
        }
        struct mono wake = targets_run(loop->targets, mono_now()); // the turn has started deliveries
        err = retain_step(loop);
        if (err != ERR_OK) {
            return err;
        }
        backup_step(&loop->backup);
        bool more = loop->retries || loop->done != NULL;
        if (loop->messages != NULL || (more && !loop->failing)) {
            continue; // a turn does a bounded amount; the rest is next
        }
        struct mono decide = loop->ending ? deadline : engine_wake(loop->engine);
        decide = mono_min(decide, mono_min(leases_wake(loop->leases), retain_wake(loop)));
        decide = mono_min(decide, loop->confirm_at);
        wake = mono_min(wake, mono_min(backup_wake(&loop->backup), loop->watchdog.due));
        if (loop->failing || loop->cut_off) {
            decide = mono_min(decide, loop->blocked_until); // whether there is room again
        }
        err = wait_until(wait, mono_min(wake, mono_max(decide, loop->blocked_until)),
                         loop->ending ? DUE_NEVER : wall_wake(loop));
        if (err != ERR_OK) {
            return err;
        }
    }
}

static enum err start(struct loop *loop, struct wait *wait, struct fault *fault)
{
    *fault = (struct fault){.detail = "out of memory or descriptors"};
    if (getrandom(&loop->random, sizeof loop->random, 0) != (ssize_t)sizeof loop->random) {
        return ERR_INTERNAL;
    }
    enum err err = inbox_new(&loop->inbox);
    if (err == ERR_OK) {
        err = targets_new(loop->inbox, &loop->targets);
    }
    if (err == ERR_OK) {
        err = leases_new(&loop->leases);
    }
    if (err == ERR_OK) {
        (void)fault_set(fault, ERR_OK, "the store cannot be read");
        err = recover(loop, fault);
        err = err == ERR_STORAGE_FULL ? ERR_OK : err; // then it goes on when there is room
    }
    if (err == ERR_OK) {
        err = wait_open(wait, loop);
    }
    if (err == ERR_OK) {
        err = ipc_open(loop->ipc_url, loop->inbox, &loop->ipc, fault);
    }
    if (err == ERR_OK && loop->remote != NULL) {
        err = ipc_listen(loop->ipc, loop->remote, loop->tls, fault);
    }
    return err;
}

static int exit_code(enum err err)
{
    if (err == ERR_OK) {
        return EXIT_CODE_OK;
    }
    if (err == ERR_SCHEDULER_UNAVAILABLE) {
        return EXIT_CODE_UNAVAILABLE;
    }
    if (err == ERR_INVALID_FIELD) {
        return EXIT_CODE_CONFIG; // a target in the store that this build does not know
    }
    bool io = err == ERR_STORAGE_IO || err == ERR_STORAGE_FULL || err == ERR_OUTCOME_UNKNOWN;
    return io ? EXIT_CODE_IOERR : EXIT_CODE_SOFTWARE;
}

// Those that ended, and those that workers hold; the targets have freed theirs, so the list of the live ones
// is no more.
static void free_deliveries(struct loop *loop)
{
    struct delivery *d;
    loop->live = NULL;
    for (struct inbox_item *item = loop->done, *next; item != NULL; item = next) {
        next = item->next;
        loop->live_count--;
        delivery_free(delivery_of(item));
    }
    while (loop->leases != NULL && (d = leases_overdue(loop->leases, MONO_NEVER)) != NULL) {
        leases_remove(loop->leases, d);
        loop->live_count--;
        delivery_free(d);
    }
}

// After a failure they still wait: their workers' connections end.
static void drop_waiting_leases(struct loop *loop)
{
    struct lease_grant *grant = loop->leases != NULL ? leases_take_idle(loop->leases, MONO_NEVER) : NULL;
    for (struct lease_grant *next; grant != NULL; grant = next) {
        struct buf nothing;
        buf_init(&nothing);
        next = grant->next;
        ipc_reply(grant->message, &nothing);
        buf_fini(&nothing);
        leases_free_grant(grant);
    }
}

static void stop(struct loop *loop)
{
    backup_fini(&loop->backup);
    ipc_close(loop->ipc);
    loop->ipc = NULL;
    targets_halt(loop->targets); // from here on nothing is posted
    if (loop->inbox != NULL) {
        discard_messages(loop);
    }
    loop->starts = NULL; // these go with their deliveries
    loop->starts_end = &loop->starts;
    targets_stop(loop->targets);
    drop_waiting_leases(loop);
    free_deliveries(loop);
    routes_fini(&loop->routes);
    targets_free(loop->targets);
    leases_free(loop->leases);
    engine_free(loop->engine);
    inbox_free(loop->inbox);
}

int loop_run(struct loop *loop)
{
    struct wait wait = {.epoll = -1, .timer = -1, .wall_timer = -1};
    struct fault fault;
    loop->messages_end = &loop->messages;
    loop->starts_end = &loop->starts;
    loop->done_end = &loop->done;
    loop->blocked_until = (struct mono){INT64_MIN};
    loop->next_failure_log = loop->blocked_until;
    loop->confirm_at = MONO_NEVER;
    loop->started = mono_now();
    backup_init(&loop->backup);
    loop->metrics.started = wall_now();
    enum err err = start(loop, &wait, &fault);
    if (err == ERR_OK) {
        log_line(LOG_LEVEL_INFO, "loop", "ready", "ipc=%s remote=%s version=%s", loop->ipc_url,
                 loop->remote != NULL ? loop->remote : "none", SLUICE_VERSION);
        proc_ready(loop->ready_fd);
        watchdog_init(&loop->watchdog, mono_now());
        err = serve(loop, &wait);
    } else {
        log_line(LOG_LEVEL_ERROR, "loop", "cannot_start", "error=%s detail=%s", err_name(err),
                 log_quote(fault.detail, &(struct log_text){0}));
    }
    stop(loop);
    wait_close(&wait);
    if (loop->live_count > 0) {
        log_line(LOG_LEVEL_WARNING, "loop", "abandoned", "deliveries=%zu again=\"at the next start\"",
                 loop->live_count);
    }
    log_line(LOG_LEVEL_INFO, "loop", "ended", "error=%s", err_name(err));
    return exit_code(err);
}
