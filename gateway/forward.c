#include "gateway/forward.h"

#include "common/container.h"
#include "common/log.h"
#include "common/tls.h"
#include "common/units.h"
#include "proto/words.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/supplemental/tls/tls.h>
#include <nng/transport/tcp/tcp.h>

#define SLOTS 4              // messages under way at a time
#define WORTH_SENDING 16u    // calls that make a message although another is under way
#define CALLS_MAX 65536u     // calls held at a time
#define GROUP_MAX (1u << 20) // bytes in a message of several lines
#define RECONNECT_MIN_MS 100
#define RECONNECT_MAX_MS 1000

TAILQ_HEAD(call_list, call);

// The calls of one message, in the order of their lines; NULL where one was given up meanwhile.
struct flight {
    struct slot *slot; // NULL once the reply is there
    size_t live;       // those not NULL
    size_t count;
    struct call *calls[];
};

enum slot_state { SLOT_FREE, SLOT_SENDING, SLOT_RECEIVING };

// One context of the socket: one message under way.
struct slot {
    struct forward *forward;
    enum slot_state state;
    nng_ctx context;
    nng_aio *aio;
    struct flight *flight;
    struct mono sent; // when the message was handed to the network
};

// One lock for everything. The network library is called with it held (it never calls back on the caller's
// stack), the calls' done functions never.
struct forward {
    pthread_mutex_t lock;
    nng_socket socket;
    nng_dialer dialer;
    struct tls *tls; // NULL: it takes none
    int pipe;        // the connection to the scheduler; 0 without one
    struct slot slots[SLOTS];
    unsigned under_way; // slots that are not free
    struct call_list waiting;
    size_t waiting_count;
    struct heap deadlines; // of all calls held that are not overdue yet
    nng_aio *timer;
    struct mono timer_at; // MONO_NEVER when it is not set
    struct forward_stats stats;
};

static struct call *call_of(struct heap_node *node)
{
    return container_of(node, struct call, due);
}

// ---- Messages out (all with the lock held) ----

static void waiting_add_first(struct forward *f, struct call *call)
{
    call->state = CALL_WAITING;
    TAILQ_INSERT_HEAD(&f->waiting, call, link);
    f->waiting_count++;
}

static void waiting_add_last(struct forward *f, struct call *call)
{
    call->state = CALL_WAITING;
    TAILQ_INSERT_TAIL(&f->waiting, call, link);
    f->waiting_count++;
}

static void waiting_remove(struct forward *f, struct call *call)
{
    TAILQ_REMOVE(&f->waiting, call, link);
    f->waiting_count--;
}

// How many of those waiting go into the next message, and their bytes.
static size_t group_size(const struct forward *f, size_t *bytes)
{
    size_t count = 0;
    const struct call *call;
    *bytes = 0;
    TAILQ_FOREACH(call, &f->waiting, link)
    {
        // cppcheck-suppress uninitvar ; it does not see that TAILQ_FOREACH sets call
        bool fits = count < MESSAGE_LINES_MAX && *bytes + call->len <= GROUP_MAX && !call->alone;
        if (count > 0 && !fits) {
            break;
        }
        count++;
        *bytes += call->len;
        if (call->alone) {
            break;
        }
    }
    return count;
}

// Sends the head of the list as one message. False when there is no memory for it: then all stays as it is,
// and the next event tries again.
static bool slot_send(struct forward *f, struct slot *slot)
{
    size_t bytes;
    size_t count = group_size(f, &bytes);
    struct flight *flight = malloc(sizeof(*flight) + count * sizeof(flight->calls[0]));
    nng_msg *msg = NULL;
    if (!flight || nng_msg_alloc(&msg, bytes) != 0) {
        free(flight);
        return false;
    }
    *flight = (struct flight){.slot = slot, .live = count, .count = count};
    char *to = nng_msg_body(msg);
    for (size_t i = 0; i < count; i++) {
        struct call *call = TAILQ_FIRST(&f->waiting);
        waiting_remove(f, call);
        memcpy(to, call->line, call->len);
        to += call->len;
        flight->calls[i] = call;
        call->flight = flight;
        call->index = i;
        call->state = CALL_SENDING;
    }
    slot->flight = flight;
    slot->state = SLOT_SENDING;
    slot->sent = mono_now();
    histogram_add(&f->stats.lines, &histogram_counts, (int64_t)count);
    f->under_way++;
    nng_aio_set_msg(slot->aio, msg);
    nng_ctx_send(slot->context, slot->aio);
    return true;
}

// Without a connection all wait in the list: what is not sent can be given up without a doubt. With one, the
// rule is Nagle's (RFC 896): the first goes at once, and while it is under way the others gather, until it is
// answered or there are enough of them. So an idle gateway adds no delay, and a busy scheduler gets full
// groups to commit.
static void pump(struct forward *f)
{
    for (size_t i = 0; i < SLOTS && f->pipe != 0; i++) {
        if (f->waiting_count == 0 || (f->under_way > 0 && f->waiting_count < WORTH_SENDING)) {
            return;
        }
        if (f->slots[i].state == SLOT_FREE && !slot_send(f, &f->slots[i])) {
            return;
        }
    }
}

// Takes the message out of its slot; the caller frees the flight.
static struct flight *slot_release(struct slot *slot)
{
    struct flight *flight = slot->flight;
    flight->slot = NULL;
    slot->flight = NULL;
    slot->state = SLOT_FREE;
    slot->forward->under_way--;
    return flight;
}

// Its message came to nothing: what still has time goes back to the front, in order, the rest is given up.
static void flight_requeue(struct forward *f, struct flight *flight, struct call_list *given_up)
{
    for (size_t i = flight->count; i-- > 0;) {
        struct call *call = flight->calls[i];
        if (!call) {
            continue;
        }
        call->flight = NULL;
        call->resent = call->ever_sent;
        if (call->overdue) {
            TAILQ_INSERT_TAIL(given_up, call, link);
        } else {
            waiting_add_first(f, call);
        }
    }
    free(flight);
}

// ---- Deadlines (all with the lock held) ----

static void timer_set(struct forward *f, struct mono now)
{
    const struct heap_node *top = heap_top(&f->deadlines);
    if (!top || top->key >= f->timer_at.ns) {
        return;
    }
    if (f->timer_at.ns != MONO_NEVER.ns) {
        nng_aio_cancel(f->timer); // its callback sets it anew
        return;
    }
    int64_t in_ns = top->key > now.ns ? top->key - now.ns : 0;
    f->timer_at.ns = top->key;
    nng_sleep_aio((nng_duration)(in_ns / NS_PER_MS + 1), f->timer);
}

static void call_expire(struct forward *f, struct call *call, struct call_list *given_up)
{
    struct flight *flight = call->flight;
    switch (call->state) {
    case CALL_WAITING:
        waiting_remove(f, call);
        TAILQ_INSERT_TAIL(given_up, call, link);
        break;
    case CALL_SENDING:
        // Nobody knows yet whether it goes out: take it back, or hear that it is too late for that.
        call->overdue = true;
        nng_aio_cancel(flight->slot->aio);
        break;
    case CALL_SENT:
        flight->calls[call->index] = NULL;
        TAILQ_INSERT_TAIL(given_up, call, link);
        if (--flight->live == 0) {
            nng_aio_cancel(flight->slot->aio);
        }
        break;
    case CALL_IDLE:
        assert(call->state != CALL_IDLE); // an idle call has no deadline
    }
}

// What is to be done about a request that may have been done.
static const char *advice(enum call_kind kind)
{
    switch (kind) {
    case CALL_INGEST:
        return "it may have been accepted. Repeat it with the same Idempotency-Key; without one a repeat "
               "may be accepted twice.";
    case CALL_IDEMPOTENT:
        return "it may have been done. Repeat it: that does no harm.";
    case CALL_READ:
        break;
    }
    return "ask again.";
}

static void unanswered(const struct call *call, const char *within, struct fault *fault)
{
    if (call->kind == CALL_READ) {
        (void)fault_set(fault, ERR_SCHEDULER_UNAVAILABLE, "The scheduler did not answer within %s.", within);
    } else if (!call->ever_sent) {
        (void)fault_set(fault, ERR_SCHEDULER_UNAVAILABLE,
                        "The scheduler could not be reached within %s; nothing was accepted.", within);
    } else {
        (void)fault_set(fault, ERR_OUTCOME_UNKNOWN,
                        "The request was sent to the scheduler and no answer came within %s: %s", within,
                        advice(call->kind));
    }
}

// Answers those that have been taken out of everything else. Without the lock.
static void give_up(struct call_list *given_up)
{
    struct call *call;
    while ((call = TAILQ_FIRST(given_up))) {
        struct reply reply = {.ok = false};
        char within[DURATION_TEXT_SIZE];
        TAILQ_REMOVE(given_up, call, link);
        call->state = CALL_IDLE;
        duration_format(call->within_ns, within);
        unanswered(call, within, &reply.fault);
        call->done(call, &reply);
    }
}

static void timer_cb(void *arg)
{
    struct forward *f = arg;
    struct call_list given_up = TAILQ_HEAD_INITIALIZER(given_up);
    struct mono now = mono_now();
    struct heap_node *top;
    pthread_mutex_lock(&f->lock);
    f->timer_at = MONO_NEVER;
    while ((top = heap_top(&f->deadlines)) && top->key <= now.ns) {
        heap_remove(&f->deadlines, top);
        call_expire(f, call_of(top), &given_up);
    }
    timer_set(f, now);
    pthread_mutex_unlock(&f->lock);
    give_up(&given_up);
}

// ---- Replies ----

// Puts a call under its deadline and sends it when its turn comes. With the lock held.
static enum err call_enter(struct forward *f, struct call *call, int64_t due, struct mono now)
{
    enum err err = heap_insert(&f->deadlines, &call->due, due);
    if (err) {
        return err;
    }
    if (call->alone) {
        waiting_add_first(f, call);
    } else {
        waiting_add_last(f, call);
    }
    pump(f);
    timer_set(f, now);
    return ERR_OK;
}

// Its reply did not fit among the others: once more, in a message of its own, before those that came later.
static enum err call_again_alone(struct forward *f, struct call *call)
{
    pthread_mutex_lock(&f->lock);
    call->alone = true;
    enum err err = call_enter(f, call, call->due.key, mono_now());
    pthread_mutex_unlock(&f->lock);
    return err;
}

// A line that is no reply says as little as none.
static void unreadable(const struct call *call, struct reply *reply)
{
    *reply = (struct reply){.ok = false};
    (void)fault_set(&reply->fault, call->kind == CALL_READ ? ERR_SCHEDULER_UNAVAILABLE : ERR_OUTCOME_UNKNOWN,
                    "The scheduler's answer could not be understood: %s", advice(call->kind));
}

static size_t lines_count(const char *message, size_t len)
{
    size_t count = 0;
    size_t at = 0;
    size_t line_len;
    while (lines_next(message, len, &at, &line_len)) {
        count++;
    }
    return count;
}

// Hands each line to its call. Without the lock: the flight is out of everything.
static void deliver(struct forward *f, struct flight *flight, nng_msg *msg)
{
    const char *message = nng_msg_body(msg);
    size_t len = nng_msg_len(msg);
    size_t at = 0;
    size_t lines = lines_count(message, len);
    bool readable = lines == flight->count; // else which line is whose is anybody's guess
    if (!readable) {
        log_line(LOG_LEVEL_ERROR, "forward", "bad_reply", "lines=%zu expected=%zu", lines, flight->count);
    }
    for (size_t i = 0; i < flight->count; i++) {
        struct reply reply;
        size_t line_len;
        const char *line = readable ? lines_next(message, len, &at, &line_len) : NULL;
        struct call *call = flight->calls[i];
        if (!call) {
            continue;
        }
        if (!line || reply_parse(line, line_len, &reply) != ERR_OK) {
            unreadable(call, &reply);
        }
        bool alone = !reply.ok && reply.fault.err == ERR_TRY_ALONE && !call->alone;
        if (!alone || call_again_alone(f, call) != ERR_OK) {
            call->done(call, &reply);
        }
    }
    free(flight);
    nng_msg_free(msg);
}

// The message is on its way (or, at least, in the kernel's hands).
static void slot_sent(struct slot *slot, struct call_list *given_up)
{
    struct flight *flight = slot->flight;
    for (size_t i = 0; i < flight->count; i++) {
        struct call *call = flight->calls[i];
        call->state = CALL_SENT;
        call->ever_sent = true;
        if (call->overdue) {
            flight->calls[i] = NULL;
            flight->live--;
            TAILQ_INSERT_TAIL(given_up, call, link);
        }
    }
    if (flight->live == 0) {
        free(slot_release(slot)); // the next send on this context forgets the reply
        return;
    }
    slot->state = SLOT_RECEIVING;
    nng_ctx_recv(slot->context, slot->aio);
}

static void slot_cb(void *arg)
{
    struct slot *slot = arg;
    struct forward *f = slot->forward;
    struct call_list given_up = TAILQ_HEAD_INITIALIZER(given_up);
    struct flight *flight = NULL;
    nng_msg *msg = NULL;
    pthread_mutex_lock(&f->lock);
    int failed = nng_aio_result(slot->aio);
    if (failed) {
        if (slot->state == SLOT_SENDING) {
            nng_msg_free(nng_aio_get_msg(slot->aio));
        }
        flight_requeue(f, slot_release(slot), &given_up);
    } else if (slot->state == SLOT_SENDING) {
        slot_sent(slot, &given_up);
    } else {
        msg = nng_aio_get_msg(slot->aio);
        histogram_add(&f->stats.round_trips, &histogram_times, mono_diff(mono_now(), slot->sent));
        flight = slot_release(slot);
        for (size_t i = 0; i < flight->count; i++) {
            if (!flight->calls[i]) {
                continue;
            }
            heap_remove(&f->deadlines, &flight->calls[i]->due);
            flight->calls[i]->state = CALL_IDLE;
            flight->calls[i]->flight = NULL;
        }
    }
    pump(f);
    pthread_mutex_unlock(&f->lock);
    give_up(&given_up);
    if (flight) {
        deliver(f, flight, msg);
    }
}

// ---- From the outside ----

enum err forward_call(struct forward *f, struct call *call, int64_t within_ns, struct fault *fault)
{
    struct mono now = mono_now();
    call->within_ns = within_ns;
    call->alone = call->overdue = call->ever_sent = call->resent = false;
    pthread_mutex_lock(&f->lock);
    bool full = f->deadlines.len >= CALLS_MAX;
    enum err err = full ? ERR_NO_MEMORY : call_enter(f, call, mono_add(now, within_ns).ns, now);
    pthread_mutex_unlock(&f->lock);
    if (err) {
        return fault_set(fault, ERR_SCHEDULER_UNAVAILABLE,
                         "Too many requests wait for the scheduler; nothing was accepted.");
    }
    return ERR_OK;
}

void forward_measure(struct forward *f, struct forward_stats *stats)
{
    pthread_mutex_lock(&f->lock);
    *stats = f->stats;
    stats->waiting = f->waiting_count;
    stats->pending = f->deadlines.len;
    pthread_mutex_unlock(&f->lock);
}

// A connection that ends may be reported late, or without having been reported before.
static void pipe_cb(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    struct forward *f = arg;
    int id = nng_pipe_id(pipe);
    pthread_mutex_lock(&f->lock);
    bool added = event == NNG_PIPE_EV_ADD_POST;
    bool lost = !added && f->pipe == id;
    if (added) {
        f->pipe = id;
        f->stats.connects++;
    } else if (lost) {
        f->pipe = 0;
    }
    pump(f);
    pthread_mutex_unlock(&f->lock);
    if (added) {
        log_line(LOG_LEVEL_INFO, "forward", "scheduler_connected", NULL);
    } else if (lost) {
        log_line(LOG_LEVEL_WARNING, "forward", "scheduler_lost", NULL);
    }
}

static int use_config(void *arg, nng_tls_config *config)
{
    struct forward *f = arg;
    return nng_dialer_set_ptr(f->dialer, NNG_OPT_TLS_CONFIG, config);
}

static int dial(struct forward *f, const char *url)
{
    int rv = nng_dialer_create(&f->dialer, f->socket, url);
    if (rv == 0 && strncmp(url, "ipc://", strlen("ipc://")) != 0) {
        // A peer whose host is gone without a word is missed one day; and no message waits for the last one's
        // acknowledgement.
        (void)((rv = nng_dialer_set_bool(f->dialer, NNG_OPT_TCP_KEEPALIVE, true)) ||
               (rv = nng_dialer_set_bool(f->dialer, NNG_OPT_TCP_NODELAY, true)));
    }
    if (rv == 0 && f->tls) {
        rv = use_config(f, tls_config(f->tls));
    }
    return rv ? rv : nng_dialer_start(f->dialer, NNG_FLAG_NONBLOCK);
}

static int socket_open(struct forward *f, const char *url)
{
    int rv;
    // An infinite resend time: a lost connection fails the receive at once, and we decide.
    (void)((rv = nng_req0_open(&f->socket)) ||
           (rv = nng_socket_set_ms(f->socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE)) ||
           (rv = nng_socket_set_size(f->socket, NNG_OPT_RECVMAXSZ, MESSAGE_MAX)) ||
           (rv = nng_socket_set_ms(f->socket, NNG_OPT_RECONNMINT, RECONNECT_MIN_MS)) ||
           (rv = nng_socket_set_ms(f->socket, NNG_OPT_RECONNMAXT, RECONNECT_MAX_MS)) ||
           (rv = nng_pipe_notify(f->socket, NNG_PIPE_EV_ADD_POST, pipe_cb, f)) ||
           (rv = nng_pipe_notify(f->socket, NNG_PIPE_EV_REM_POST, pipe_cb, f)) ||
           (rv = nng_aio_alloc(&f->timer, timer_cb, f)));
    for (size_t i = 0; i < SLOTS && rv == 0; i++) {
        f->slots[i].forward = f;
        (void)((rv = nng_ctx_open(&f->slots[i].context, f->socket)) ||
               (rv = nng_aio_alloc(&f->slots[i].aio, slot_cb, &f->slots[i])));
    }
    return rv ? rv : dial(f, url);
}

enum err forward_reload(struct forward *f, struct fault *fault)
{
    return tls_reload(f->tls, use_config, f, fault);
}

enum err forward_open(const char *url, struct tls *tls, struct forward **forward, struct fault *fault)
{
    struct forward *f = calloc(1, sizeof(*f));
    if (!f) {
        return fault_set(fault, ERR_NO_MEMORY, "out of memory");
    }
    pthread_mutex_init(&f->lock, NULL);
    f->tls = tls;
    TAILQ_INIT(&f->waiting);
    heap_init(&f->deadlines);
    f->timer_at = MONO_NEVER;
    enum err err = heap_reserve(&f->deadlines, CALLS_MAX);
    int rv = err ? NNG_ENOMEM : socket_open(f, url);
    // What was opened is left to the end of the process, which follows at once.
    if (rv) {
        return fault_set(fault, rv == NNG_ENOMEM ? ERR_NO_MEMORY : ERR_INTERNAL, "cannot connect to %s: %s",
                         url, nng_strerror(rv));
    }
    *forward = f;
    return ERR_OK;
}
