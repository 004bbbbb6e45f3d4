#include "scheduler/ipc_context.h"

#include <stdlib.h>
#include <string.h>

#define CONTEXTS_MAX 64     // messages between arrival and reply, without those that are kept
#define SEND_MS 5000        // a peer that has not taken a reply by then is cut off
#define SEND_CROWDED_MS 500 // or by then, when so much is held that others may soon have no room

// Bytes of all messages together, from the moment a receive is posted to the end of its reply. Until a
// message has come and its lines are counted it is taken for the largest one.
#define BUDGET ((size_t)64 << 20)
#define LARGEST (MESSAGE_MAX + MESSAGE_LINES_MAX * sizeof(struct ipc_request))
#define KEPT_CHARGE sizeof(struct ipc_request)
_Static_assert(LARGEST + IPC_KEPT_MAX * KEPT_CHARGE <= BUDGET, "one message must always be allowed");

static void on_event(void *arg);

// ---- to receive ----

static void end_call(struct ipc *ipc)
{
    pthread_mutex_lock(&ipc->lock);
    ipc->calls--;
    if (ipc->calls == 0) {
        pthread_cond_broadcast(&ipc->no_calls);
    }
    pthread_mutex_unlock(&ipc->lock);
}

struct ipc_context *context_make(struct ipc *ipc)
{
    struct ipc_context *context = calloc(1, sizeof(*context));

    if (!context) {
        return NULL;
    }
    context->ipc = ipc;
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

void context_receive_more(struct ipc *ipc)
{
    struct ipc_context *context;

    while (begin_receiving(ipc, &context)) {
        if (!context) {
            context = context_make(ipc);
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

void context_set_charge(struct ipc_context *context, size_t charge)
{
    struct ipc *ipc = context->ipc;

    pthread_mutex_lock(&ipc->lock);
    ipc->held -= context->charge;
    ipc->held += charge;
    context->charge = charge;
    pthread_mutex_unlock(&ipc->lock);
}

void context_release(struct ipc_context *context)
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
    context_receive_more(ipc);
}

// ---- to keep ----

enum err context_make_way(struct ipc *ipc)
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
    spare = context_make(ipc);
    if (spare) {
        pthread_mutex_lock(&ipc->lock);
        spare->next = ipc->idle;
        ipc->idle = spare;
        pthread_mutex_unlock(&ipc->lock);
    }
    end_call(ipc);
    return spare ? ERR_OK : ERR_NO_MEMORY;
}

void context_keep(struct ipc_context *context)
{
    struct ipc *ipc = context->ipc;

    pthread_mutex_lock(&ipc->lock);
    context->kept = true;
    ipc->busy--;
    ipc->kept++;
    ipc->held = ipc->held - context->charge + KEPT_CHARGE;
    context->charge = KEPT_CHARGE;
    pthread_mutex_unlock(&ipc->lock);
    context_receive_more(ipc);
}

// ---- to send ----

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

// Half of what there may be is held by messages that have come. One peer that does not read must not keep all
// of it, and so everybody else's requests from being read.
static bool is_crowded(struct ipc *ipc)
{
    bool crowded;

    pthread_mutex_lock(&ipc->lock);
    crowded = ipc->busy - ipc->receiving > CONTEXTS_MAX / 2 ||
              ipc->held - ipc->receiving * LARGEST > (BUDGET - LARGEST) / 2;
    pthread_mutex_unlock(&ipc->lock);
    return crowded;
}

void context_send(struct ipc_context *context, const struct buf *lines)
{
    struct ipc *ipc = context->ipc;
    nng_msg *msg = NULL;

    if (buf_err(lines) != ERR_OK || nng_msg_alloc(&msg, lines->len) != 0) {
        // A connection that breaks tells the peer that the outcome is unknown, sooner than silence would.
        nng_pipe_close(context->pipe);
        context_release(context);
        return;
    }
    if (lines->len > 0) {
        memcpy(nng_msg_body(msg), lines->data, lines->len);
    }
    context_set_charge(context, lines->len);
    if (!begin_sending(context)) {
        nng_msg_free(msg);
        context_release(context);
        return;
    }
    nng_aio_set_msg(context->aio, msg);
    nng_aio_set_timeout(context->aio, is_crowded(ipc) ? SEND_CROWDED_MS : SEND_MS);
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
    context_release(context);
}

static void on_event(void *arg)
{
    struct ipc_context *context = arg;

    switch (context->state) {
    case CONTEXT_RECEIVING:
        ipc_received(context);
        break;
    case CONTEXT_SENDING:
        sent(context);
        break;
    }
}
