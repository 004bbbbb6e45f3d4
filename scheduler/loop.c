#include "scheduler/loop.h"

#include "common/conf.h"
#include "common/container.h"
#include "common/log.h"
#include "common/proc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define LAST_REPLIES_NS (1 * NS_PER_S) // what was received before the end gets this long to be answered
#define DRAIN_NS (10 * NS_PER_S)       // deliveries in flight get this long at the end

static void append(struct inbox_item ***end, struct inbox_item *item)
{
    item->next = NULL;
    **end = item;
    *end = &item->next;
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
        case INBOX_LATE:
            append(&loop->late_end, item);
            break;
        }
    }
}

struct target *loop_target(const struct loop *loop, int64_t queue)
{
    for (size_t i = 0; i < loop->route_count; i++) {
        if (loop->routes[i].queue == queue) {
            return loop->routes[i].target;
        }
    }
    return NULL;
}

static enum err open_routes(struct loop *loop)
{
    struct queue_row *rows = NULL;
    size_t count = 0;
    enum err err = store_load_queues(loop->store, &rows, &count);
    if (err == ERR_OK) {
        loop->routes = calloc(count + 1, sizeof *loop->routes);
        err = loop->routes != NULL ? ERR_OK : ERR_NO_MEMORY;
    }
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        struct fault fault;
        struct route *route = &loop->routes[loop->route_count];
        route->queue = rows[i].id;
        err = target_new(rows[i].settings.target, loop->inbox, &route->target, &fault);
        if (err == ERR_OK) {
            loop->route_count++;
        } else {
            log_line(LOG_LEVEL_ERROR, "loop", "bad_target", "queue=%s detail=%s", rows[i].name,
                     log_quote(fault.detail, &(struct log_text){0}));
        }
    }
    free(rows);
    return err;
}

static struct mono run_targets(struct loop *loop, struct mono now)
{
    struct mono wake = MONO_NEVER;
    for (size_t i = 0; i < loop->route_count; i++) {
        struct target *target = loop->routes[i].target;
        if (target->ops->run != NULL) {
            wake = mono_min(wake, target->ops->run(target, now));
        }
    }
    return wake;
}

// ---- waiting ----

struct wait {
    int epoll;
    int timer;
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
    if (wait->epoll < 0 || wait->timer < 0 || !wait_add(wait, wait->timer) ||
        !wait_add(wait, inbox_fd(loop->inbox)) || !wait_add(wait, loop->signals)) {
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
}

// Sleeps until something reaches the inbox, a signal comes or the moment is there.
static enum err wait_until(const struct wait *wait, struct mono wake)
{
    struct itimerspec when = {.it_value = {0, 0}}; // disarmed
    if (wake.ns != MONO_NEVER.ns) {
        int64_t ns = wake.ns > 0 ? wake.ns : 1; // 0 would disarm it
        when.it_value.tv_sec = ns / NS_PER_S;
        when.it_value.tv_nsec = ns % NS_PER_S;
    }
    if (timerfd_settime(wait->timer, TFD_TIMER_ABSTIME, &when, NULL) != 0) {
        return ERR_INTERNAL;
    }
    struct epoll_event event;
    int n = epoll_wait(wait->epoll, &event, 1, -1);
    return n >= 0 || errno == EINTR ? ERR_OK : ERR_INTERNAL;
}

// ---- the loop ----

static bool signalled(const struct loop *loop)
{
    char bytes[256];
    return read(loop->signals, bytes, sizeof bytes) > 0;
}

// What came too late to be taken: a reply on a closed socket only frees it.
static void discard_messages(struct loop *loop)
{
    loop_take(loop);
    for (struct inbox_item *item = loop->messages, *next; item != NULL; item = next) {
        struct buf nothing;
        buf_init(&nothing);
        next = item->next;
        ipc_reply(container_of(item, struct ipc_message, item), &nothing);
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
    ipc_close(loop->ipc);
    loop->ipc = NULL;
    discard_messages(loop);
    return err;
}

static enum err serve(struct loop *loop, const struct wait *wait)
{
    struct mono deadline = MONO_NEVER;
    for (;;) {
        if (signalled(loop) && !loop->ending) {
            enum err err = begin_ending(loop);
            if (err != ERR_OK) {
                return err;
            }
            deadline = mono_add(mono_now(), DRAIN_NS);
        }
        struct mono now = mono_now();
        (void)run_targets(loop, now);
        enum err err = turn(loop, now);
        if (err != ERR_OK) {
            return err;
        }
        if (loop->ending && (loop->live_count == 0 || !mono_before(mono_now(), deadline))) {
            return loop->done == NULL ? ERR_OK : ERR_STORAGE_FULL;
        }
        if (loop->messages != NULL) {
            continue; // a turn takes a bounded number; the rest is next
        }
        struct mono wake = run_targets(loop, mono_now()); // the turn has started deliveries
        struct mono decide = loop->ending ? deadline : engine_wake(loop->engine);
        if (loop->done != NULL) {
            decide = mono_min(decide, loop->blocked_until);
        }
        err = wait_until(wait, mono_min(wake, mono_max(decide, loop->blocked_until)));
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
        err = open_routes(loop);
    }
    if (err == ERR_OK) {
        (void)fault_set(fault, ERR_OK, "the store cannot be read");
        err = recover(loop);
        err = err == ERR_STORAGE_FULL ? ERR_OK : err; // then it goes on when there is room
    }
    if (err == ERR_OK) {
        err = wait_open(wait, loop);
    }
    if (err == ERR_OK) {
        err = ipc_open(loop->ipc_url, loop->inbox, &loop->ipc, fault);
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
    return err == ERR_STORAGE_IO || err == ERR_STORAGE_FULL ? EXIT_CODE_IOERR : EXIT_CODE_SOFTWARE;
}

static void stop(struct loop *loop)
{
    ipc_close(loop->ipc);
    loop->ipc = NULL;
    for (size_t i = 0; i < loop->route_count; i++) {
        target_free(loop->routes[i].target);
    }
    free(loop->routes);
    engine_free(loop->engine);
    if (loop->inbox != NULL) {
        discard_messages(loop);
    }
    for (struct inbox_item *item = loop->done, *next; item != NULL; item = next) {
        next = item->next;
        delivery_free(delivery_of(item));
    }
    inbox_free(loop->inbox);
}

int loop_run(struct loop *loop)
{
    struct wait wait = {-1, -1};
    struct fault fault;
    loop->messages_end = &loop->messages;
    loop->late_end = &loop->late;
    loop->done_end = &loop->done;
    loop->blocked_until = (struct mono){INT64_MIN};
    loop->next_failure_log = loop->blocked_until;
    loop->hold_logged_until = loop->blocked_until;
    loop->started = mono_now();
    enum err err = start(loop, &wait, &fault);
    if (err == ERR_OK) {
        log_line(LOG_LEVEL_INFO, "loop", "ready", "ipc=%s version=%s", loop->ipc_url, SLUICE_VERSION);
        proc_ready(loop->ready_fd);
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
