#include "scheduler/ipc.h"

#include "common/clock.h"
#include "common/container.h"
#include "common/log.h"
#include "common/worker.h"
#include "proto/reply.h"
#include "scheduler/ipc_decode.h"
#include "scheduler/ipc_pipes.h"
#include "scheduler/ipc_watch.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CONTEXTS_MAX 64          // messages between arrival and reply, without those that are kept
#define CALLBACK_MAX (64u << 10) // bytes; a longer message is decoded by the worker
#define SEND_MS 5000             // a peer that has not taken a reply by then is cut off
#define GRACE_MS 1000            // for replies on their way when we end
#define LINGER_MS 100

// Bytes of all messages together, from the moment a receive is posted to the end of its reply. Until a
// message has come and its lines are counted it is taken for the largest one.
#define BUDGET ((size_t)64 << 20)
#define LARGEST (MESSAGE_MAX + MESSAGE_LINES_MAX * sizeof(struct ipc_request))
#define KEPT_CHARGE sizeof(struct ipc_request)
_Static_assert(LARGEST + IPC_KEPT_MAX * KEPT_CHARGE <= BUDGET, "one message must always be allowed");

enum context_state { CONTEXT_RECEIVING, CONTEXT_SENDING };

// One message at a time goes through a context: idle -> receiving -> decoding (in a callback or by the
// worker) -> in the inbox and the loop -> sending -> idle. Whoever has it at its stage owns it alone; `next`,
// `kept` and `charge` are guarded by ipc->lock.
struct ipc_context {
    struct ipc *ipc;
    struct ipc_context *made_before; // all of them; constant
    struct ipc_context *next;        // idle ones
    bool kept;                       // its message is, from ipc_keep to the end of its reply
    size_t charge;                   // what it counts for in ipc->held
    nng_ctx ctx;
    nng_aio *aio;
    enum context_state state; // what the aio does
    nng_pipe pipe;            // where the message came from
    nng_msg *msg;             // until it is decoded
    struct work work;
    struct ipc_message message;
};

struct ipc {
    struct inbox *inbox;
    nng_socket socket;
    struct id_minter minter;
    struct worker *worker;
    struct ipc_watch *watch;
    struct ipc_pipes *pipes;
    nng_aio *grace; // sleeps while ipc_close waits for `sending` to become 0

    pthread_mutex_t lock; // guards what follows; taken before the inbox's, never while calling a function
                          // that may call back
    bool closing;
    struct ipc_context *contexts; // all, the youngest first: never more than have been busy and kept at once
    struct ipc_context *idle;
    size_t busy; // neither idle nor kept
    size_t kept;
    size_t held;
    size_t receiving;
    size_t sending;
    size_t calls; // of NNG for a context, that have not returned: nng_close must not overtake them
    pthread_cond_t no_calls;
    size_t users; // ipc_close not yet done, and each message that is in the inbox or in the loop
};

// ---- contexts ----

static void decode_work(struct work *work);
static void on_event(void *arg);

static void end_call(struct ipc *ipc)
{
    pthread_mutex_lock(&ipc->lock);
    ipc->calls--;
    if (ipc->calls == 0) {
        pthread_cond_broadcast(&ipc->no_calls);
    }
    pthread_mutex_unlock(&ipc->lock);
}

// NULL without memory. The caller has a call open.
static struct ipc_context *make_context(struct ipc *ipc)
{
    struct ipc_context *context = calloc(1, sizeof(*context));

    if (!context) {
        return NULL;
    }
    context->ipc = ipc;
    context->work.run = decode_work;
    context->message.item.kind = INBOX_MESSAGE;
    context->message.context = context;
    if (nng_aio_alloc(&context->aio, on_event, context) != 0 ||
        nng_ctx_open(&context->ctx, ipc->socket) != 0) {
        nng_aio_free(context->aio);
        free(context);
        return NULL;
    }
    pthread_mutex_lock(&ipc->lock);
    context->made_before = ipc->contexts;
    ipc->contexts = context;
    pthread_mutex_unlock(&ipc->lock);
    return context;
}

static struct ipc_context *pop_idle(struct ipc *ipc)
{
    struct ipc_context *context = ipc->idle;

    if (context) {
        ipc->idle = context->next;
    }
    return context;
}

// False when none may be posted now; otherwise end_call follows.
static bool begin_receiving(struct ipc *ipc, struct ipc_context **idle)
{
    bool allowed;

    pthread_mutex_lock(&ipc->lock);
    allowed = !ipc->closing && ipc->busy < CONTEXTS_MAX && ipc->held + LARGEST <= BUDGET;
    if (allowed) {
        *idle = pop_idle(ipc);
        ipc->held += LARGEST;
        ipc->busy++;
        ipc->receiving++;
        ipc->calls++;
    }
    pthread_mutex_unlock(&ipc->lock);
    return allowed;
}

static void give_up_receiving(struct ipc *ipc)
{
    pthread_mutex_lock(&ipc->lock);
    ipc->held -= LARGEST;
    ipc->busy--;
    ipc->receiving--;
    pthread_mutex_unlock(&ipc->lock);
}

// Posts as many receives as contexts and budget allow.
static void receive_more(struct ipc *ipc)
{
    struct ipc_context *context;

    while (begin_receiving(ipc, &context)) {
        if (!context) {
            context = make_context(ipc);
        }
        if (!context) {
            give_up_receiving(ipc);
            end_call(ipc);
            return;
        }
        context->charge = LARGEST;
        context->state = CONTEXT_RECEIVING;
        nng_aio_set_timeout(context->aio, NNG_DURATION_INFINITE);
        nng_ctx_recv(context->ctx, context->aio);
        end_call(ipc);
    }
}

static void set_charge(struct ipc_context *context, size_t charge)
{
    struct ipc *ipc = context->ipc;

    pthread_mutex_lock(&ipc->lock);
    ipc->held -= context->charge;
    ipc->held += charge;
    context->charge = charge;
    pthread_mutex_unlock(&ipc->lock);
}

static void release(struct ipc_context *context)
{
    struct ipc *ipc = context->ipc;

    pthread_mutex_lock(&ipc->lock);
    ipc->held -= context->charge;
    context->charge = 0;
    *(context->kept ? &ipc->kept : &ipc->busy) -= 1;
    context->kept = false;
    context->next = ipc->idle;
    ipc->idle = context;
    pthread_mutex_unlock(&ipc->lock);
    receive_more(ipc);
}

static void drop_message(struct ipc_context *context)
{
    nng_msg_free(context->msg);
    context->msg = NULL;
}

// False when ipc_close has begun.
static bool begin_sending(struct ipc_context *context)
{
    struct ipc *ipc = context->ipc;
    bool open;

    pthread_mutex_lock(&ipc->lock);
    open = !ipc->closing;
    if (open) {
        context->state = CONTEXT_SENDING;
        ipc->sending++;
        ipc->calls++;
    }
    pthread_mutex_unlock(&ipc->lock);
    return open;
}

static void send_reply(struct ipc_context *context, const struct buf *lines)
{
    struct ipc *ipc = context->ipc;
    nng_msg *msg = NULL;

    if (buf_err(lines) != ERR_OK || nng_msg_alloc(&msg, lines->len) != 0) {
        // A connection that breaks tells the peer that the outcome is unknown, sooner than silence would.
        nng_pipe_close(context->pipe);
        release(context);
        return;
    }
    if (lines->len > 0) {
        memcpy(nng_msg_body(msg), lines->data, lines->len);
    }
    set_charge(context, lines->len);
    if (!begin_sending(context)) {
        nng_msg_free(msg);
        release(context);
        return;
    }
    nng_aio_set_msg(context->aio, msg);
    nng_aio_set_timeout(context->aio, SEND_MS);
    nng_ctx_send(context->ctx, context->aio); // the context may be in its next round when this returns
    end_call(ipc);
}

static void sent(struct ipc_context *context)
{
    struct ipc *ipc = context->ipc;
    int result = nng_aio_result(context->aio);

    if (result != 0) {
        nng_msg_free(nng_aio_get_msg(context->aio));
        nng_aio_set_msg(context->aio, NULL);
    }
    if (result == NNG_ETIMEDOUT) {
        nng_pipe_close(context->pipe);
    }
    pthread_mutex_lock(&ipc->lock);
    ipc->sending--;
    if (ipc->closing && ipc->sending == 0) {
        nng_aio_cancel(ipc->grace); // it has no callback
    }
    pthread_mutex_unlock(&ipc->lock);
    release(context);
}

// ---- messages ----

// One error reply for the message as a whole.
static void refuse(struct ipc_context *context, const struct fault *fault)
{
    struct buf line;

    drop_message(context);
    buf_init(&line);
    reply_error(&line, fault->err, fault->detail);
    send_reply(context, &line);
    buf_fini(&line);
}

// Sends it back as it came.
static void answer_probe(struct ipc_context *context)
{
    struct buf line;

    buf_init(&line);
    buf_put(&line, nng_msg_body(context->msg), nng_msg_len(context->msg));
    drop_message(context);
    send_reply(context, &line);
    buf_fini(&line);
}

static bool is_probe(const struct ipc_context *context)
{
    size_t len;
    const char *line = ipc_watch_line(context->ipc->watch, &len);

    return nng_msg_len(context->msg) == len && memcmp(nng_msg_body(context->msg), line, len) == 0;
}

static void post(struct ipc_context *context)
{
    struct ipc *ipc = context->ipc;
    bool open;

    pthread_mutex_lock(&ipc->lock);
    open = !ipc->closing;
    if (open) {
        ipc->users++;
        inbox_post(ipc->inbox, &context->message.item);
    }
    pthread_mutex_unlock(&ipc->lock);
    if (!open) {
        ipc_free_requests(&context->message);
        release(context);
    }
}

static void decode(struct ipc_context *context)
{
    struct ipc *ipc = context->ipc;
    const char *text = nng_msg_body(context->msg);
    size_t len = nng_msg_len(context->msg);
    size_t count = ipc_count_lines(text, len);
    struct fault fault;

    set_charge(context, len + count * sizeof(struct ipc_request));
    receive_more(ipc);
    if (is_probe(context)) {
        answer_probe(context);
        return;
    }
    if (ipc_decode(text, len, count, &ipc->minter, &context->message, &fault) != ERR_OK) {
        refuse(context, &fault);
        return;
    }
    drop_message(context);
    post(context);
}

static void decode_work(struct work *work)
{
    decode(container_of(work, struct ipc_context, work));
}

static void received(struct ipc_context *context)
{
    struct ipc *ipc = context->ipc;
    int result = nng_aio_result(context->aio);

    pthread_mutex_lock(&ipc->lock);
    ipc->receiving--;
    pthread_mutex_unlock(&ipc->lock);
    if (result != 0) {
        release(context);
        return;
    }
    context->msg = nng_aio_get_msg(context->aio);
    nng_aio_set_msg(context->aio, NULL);
    context->pipe = nng_msg_get_pipe(context->msg);
    context->message.pipe = context->pipe.id;
    if (nng_msg_len(context->msg) <= CALLBACK_MAX) {
        decode(context);
    } else {
        worker_post(ipc->worker, &context->work);
    }
}

static void on_event(void *arg)
{
    struct ipc_context *context = arg;

    switch (context->state) {
    case CONTEXT_RECEIVING:
        received(context);
        break;
    case CONTEXT_SENDING:
        sent(context);
        break;
    }
}

// ---- life ----

// For the watch.
static bool is_receiving(void *arg)
{
    struct ipc *ipc = arg;
    bool receiving;

    pthread_mutex_lock(&ipc->lock);
    receiving = ipc->receiving > 0 && !ipc->closing;
    pthread_mutex_unlock(&ipc->lock);
    return receiving;
}

static void ipc_free(struct ipc *ipc)
{
    for (struct ipc_context *context = ipc->contexts, *next; context; context = next) {
        next = context->made_before;
        nng_aio_free(context->aio);
        free(context);
    }
    nng_aio_free(ipc->grace);
    ipc_pipes_free(ipc->pipes);
    ipc_watch_free(ipc->watch);
    id_minter_fini(&ipc->minter);
    pthread_cond_destroy(&ipc->no_calls);
    pthread_mutex_destroy(&ipc->lock);
    free(ipc);
}

// From here on nothing is received, posted or sent, and no context made; what is on its way goes on.
static void stop_taking(struct ipc *ipc)
{
    if (ipc->pipes) {
        ipc_pipes_stop(ipc->pipes);
    }
    pthread_mutex_lock(&ipc->lock);
    ipc->closing = true;
    while (ipc->calls > 0) {
        pthread_cond_wait(&ipc->no_calls, &ipc->lock);
    }
    pthread_mutex_unlock(&ipc->lock);
}

// After the socket was closed: waits for the callbacks and for what the worker has got.
static void stop_contexts(struct ipc *ipc)
{
    for (struct ipc_context *context = ipc->contexts; context; context = context->made_before) {
        nng_aio_stop(context->aio);
    }
    worker_stop(ipc->worker);
    ipc->worker = NULL;
}

static void drop_user(struct ipc *ipc)
{
    bool last;

    pthread_mutex_lock(&ipc->lock);
    last = --ipc->users == 0;
    pthread_mutex_unlock(&ipc->lock);
    if (last) {
        ipc_free(ipc);
    }
}

static enum err open_resources(struct ipc *ipc)
{
    if (nng_aio_alloc(&ipc->grace, NULL, NULL) != 0 || nng_rep0_open(&ipc->socket) != 0 ||
        nng_socket_set_size(ipc->socket, NNG_OPT_RECVMAXSZ, MESSAGE_MAX) != 0) {
        return ERR_NO_MEMORY;
    }
    ipc->idle = make_context(ipc);
    if (!ipc->idle) {
        return ERR_NO_MEMORY;
    }
    enum err err = ipc_pipes_new(ipc->socket, ipc->inbox, &ipc->pipes);
    return err == ERR_OK ? worker_start(&ipc->worker) : err;
}

enum err ipc_open(const char *url, struct inbox *inbox, struct ipc **ipc, struct fault *fault)
{
    struct ipc *made = calloc(1, sizeof(*made));

    if (!made) {
        return fault_set(fault, ERR_NO_MEMORY, "no memory for %s", url);
    }
    made->inbox = inbox;
    made->users = 1;
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->no_calls, NULL);
    id_minter_init(&made->minter);
    enum err err = open_resources(made);
    if (err != ERR_OK) {
        (void)fault_set(fault, err, "no memory or no resources for %s", url);
    } else {
        err = ipc_watch_new(url, made->socket, is_receiving, made, &made->watch, fault);
    }
    if (err == ERR_OK) {
        receive_more(made);
        err = ipc_watch_start(made->watch, fault);
    }
    if (err != ERR_OK) {
        stop_taking(made);
        (void)nng_close(made->socket);
        stop_contexts(made);
        ipc_free(made);
        return err;
    }
    *ipc = made;
    return ERR_OK;
}

// That one more message may be kept, and a context can take its place.
static enum err make_way(struct ipc *ipc)
{
    struct ipc_context *spare;
    bool allowed;

    pthread_mutex_lock(&ipc->lock);
    allowed = !ipc->closing && ipc->kept < IPC_KEPT_MAX;
    spare = ipc->idle;
    ipc->calls += allowed && !spare;
    pthread_mutex_unlock(&ipc->lock);
    if (!allowed || spare) {
        return allowed ? ERR_OK : ERR_OVERLOADED;
    }
    spare = make_context(ipc);
    if (spare) {
        pthread_mutex_lock(&ipc->lock);
        spare->next = ipc->idle;
        ipc->idle = spare;
        pthread_mutex_unlock(&ipc->lock);
    }
    end_call(ipc);
    return spare ? ERR_OK : ERR_NO_MEMORY;
}

enum err ipc_keep(struct ipc_message *message)
{
    struct ipc_context *context = message->context;
    struct ipc *ipc = context->ipc;
    enum err err = make_way(ipc);

    if (err == ERR_OK) {
        err = ipc_pipes_keep(ipc->pipes, message->pipe);
    }
    if (err != ERR_OK) {
        return err;
    }
    pthread_mutex_lock(&ipc->lock);
    context->kept = true;
    ipc->busy--;
    ipc->kept++;
    ipc->held = ipc->held - context->charge + KEPT_CHARGE;
    context->charge = KEPT_CHARGE;
    pthread_mutex_unlock(&ipc->lock);
    receive_more(ipc);
    return ERR_OK;
}

void ipc_reply(struct ipc_message *message, struct buf *lines)
{
    struct ipc_context *context = message->context;
    struct ipc *ipc = context->ipc;

    if (context->kept) {
        ipc_pipes_release(ipc->pipes, message->pipe);
    }
    ipc_free_requests(message);
    send_reply(context, lines);
    buf_fini(lines);
    drop_user(ipc);
}

void ipc_close(struct ipc *ipc)
{
    if (!ipc) {
        return;
    }
    stop_taking(ipc);
    pthread_mutex_lock(&ipc->lock);
    if (ipc->sending > 0) {
        nng_sleep_aio(GRACE_MS, ipc->grace); // sent() ends it early
    }
    pthread_mutex_unlock(&ipc->lock);
    nng_aio_wait(ipc->grace);
    // What NNG calls sent lies in the peers' sockets, and a peer that sees us hang up first does not read it
    // any more.
    nng_sleep_aio(LINGER_MS, ipc->grace);
    nng_aio_wait(ipc->grace);

    if (ipc_watch_stop(ipc->watch) != ERR_OK) {
        // NNG may use all of it yet. The process is about to end.
        log_line(LOG_LEVEL_WARNING, "ipc", "close_hangs", NULL);
        return;
    }
    stop_contexts(ipc);
    drop_user(ipc);
}
