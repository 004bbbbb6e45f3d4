#include "scheduler/ipc.h"

#include "common/clock.h"
#include "common/container.h"
#include "common/log.h"
#include "common/worker.h"
#include "proto/reply.h"
#include "scheduler/ipc_watch.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CONTEXTS 64              // messages between arrival and reply
#define CALLBACK_MAX (64u << 10) // bytes; a longer message is decoded by the worker
#define SEND_MS 5000             // a peer that has not taken a reply by then is cut off
#define GRACE_MS 1000            // for replies on their way when we end
#define LINGER_MS 100

// Bytes of all messages together, from the moment a receive is posted to the end of its reply. Until a
// message has come and its lines are counted it is taken for the largest one.
#define BUDGET ((size_t)64 << 20)
#define LARGEST (MESSAGE_MAX + MESSAGE_LINES_MAX * sizeof(struct ipc_request))
_Static_assert(LARGEST <= BUDGET, "one message must always be allowed");

enum context_state { CONTEXT_RECEIVING, CONTEXT_SENDING };

// One message at a time goes through a context: idle -> receiving -> decoding (in a callback or by the
// worker) -> in the inbox and the loop -> sending -> idle. Whoever has it at its stage owns it alone; `next`
// and `charge` are guarded by ipc->lock.
struct ipc_context {
    struct ipc *ipc;
    struct ipc_context *next; // idle ones
    size_t charge;            // what it counts for in ipc->held
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
    nng_aio *grace; // sleeps while ipc_close waits for `sending` to become 0

    pthread_mutex_t lock; // guards what follows; taken before the inbox's, never while calling a function
                          // that may call back
    bool closing;
    struct ipc_context *idle;
    size_t held;
    size_t receiving;
    size_t sending;
    size_t calls; // of NNG for a context, that have not returned: nng_close must not overtake them
    pthread_cond_t no_calls;
    size_t users; // ipc_close not yet done, and each message that is in the inbox or in the loop
    struct ipc_context contexts[CONTEXTS];
};

// ---- contexts ----

static struct ipc_context *take_idle(struct ipc *ipc)
{
    struct ipc_context *context = NULL;

    pthread_mutex_lock(&ipc->lock);
    if (!ipc->closing && ipc->idle && ipc->held + LARGEST <= BUDGET) {
        context = ipc->idle;
        ipc->idle = context->next;
        context->charge = LARGEST;
        context->state = CONTEXT_RECEIVING;
        ipc->held += LARGEST;
        ipc->receiving++;
        ipc->calls++;
    }
    pthread_mutex_unlock(&ipc->lock);
    return context;
}

static void end_call(struct ipc *ipc)
{
    pthread_mutex_lock(&ipc->lock);
    ipc->calls--;
    if (ipc->calls == 0) {
        pthread_cond_broadcast(&ipc->no_calls);
    }
    pthread_mutex_unlock(&ipc->lock);
}

// Posts as many receives as contexts and budget allow.
static void receive_more(struct ipc *ipc)
{
    struct ipc_context *context;

    while ((context = take_idle(ipc))) {
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

static void decode_line(struct ipc *ipc, const char *line, size_t len, struct ipc_request *into)
{
    struct request *request = &into->request;
    struct fault *fault = &into->fault;

    fault->err = request_from_line(line, len, request, fault);
    if (fault->err != ERR_OK || request->op != OP_INGEST || request->ingest.has_id) {
        return;
    }
    enum err err = id_mint(&ipc->minter, wall_now().ms, &request->ingest.id);
    request->ingest.has_id = err == ERR_OK;
    if (err != ERR_OK) {
        request_fini(request);
        (void)fault_set(fault, err, "no random bytes for an ID");
    }
}

static void free_requests(struct ipc_message *message)
{
    for (size_t i = 0; i < message->count; i++) {
        request_fini(&message->requests[i].request);
    }
    free(message->requests);
    message->requests = NULL;
    message->count = 0;
}

// One error reply for the message as a whole.
static void refuse(struct ipc_context *context, enum err err, const char *text)
{
    struct buf line;

    drop_message(context);
    buf_init(&line);
    reply_error(&line, err, text);
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

// At most MESSAGE_LINES_MAX + 1.
static size_t count_lines(const char *text, size_t len)
{
    size_t count = 0, at = 0, line_len;

    while (count <= MESSAGE_LINES_MAX && lines_next(text, len, &at, &line_len)) {
        count++;
    }
    return count;
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
        free_requests(&context->message);
        release(context);
    }
}

static void decode(struct ipc_context *context)
{
    struct ipc *ipc = context->ipc;
    struct ipc_message *message = &context->message;
    const char *text = nng_msg_body(context->msg);
    size_t len = nng_msg_len(context->msg);
    size_t count = count_lines(text, len);
    size_t at = 0, line_len;
    const char *line;

    set_charge(context, len + count * sizeof(struct ipc_request));
    receive_more(ipc);
    if (is_probe(context)) {
        answer_probe(context);
        return;
    }
    if (count == 0) {
        refuse(context, ERR_BAD_REQUEST,
               "the message is empty: a message is one JSON object or several, one on each line");
        return;
    }
    if (count > MESSAGE_LINES_MAX) {
        refuse(context, ERR_BAD_REQUEST, "the message has too many lines: at most 16384 are allowed");
        return;
    }
    message->requests = calloc(count, sizeof(*message->requests));
    if (!message->requests) {
        refuse(context, ERR_NO_MEMORY, "no memory for the message");
        return;
    }
    while ((line = lines_next(text, len, &at, &line_len))) {
        decode_line(ipc, line, line_len, &message->requests[message->count++]);
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
    for (size_t i = 0; i < CONTEXTS; i++) {
        nng_aio_free(ipc->contexts[i].aio);
    }
    nng_aio_free(ipc->grace);
    ipc_watch_free(ipc->watch);
    id_minter_fini(&ipc->minter);
    pthread_cond_destroy(&ipc->no_calls);
    pthread_mutex_destroy(&ipc->lock);
    free(ipc);
}

// From here on nothing is received, posted or sent; what is on its way goes on.
static void stop_taking(struct ipc *ipc)
{
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
    for (size_t i = 0; i < CONTEXTS; i++) {
        nng_aio_stop(ipc->contexts[i].aio);
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

static enum err open_contexts(struct ipc *ipc)
{
    for (size_t i = 0; i < CONTEXTS; i++) {
        struct ipc_context *context = &ipc->contexts[i];
        context->ipc = ipc;
        context->work.run = decode_work;
        context->message.item.kind = INBOX_MESSAGE;
        context->message.context = context;
        if (nng_aio_alloc(&context->aio, on_event, context) != 0 ||
            nng_ctx_open(&context->ctx, ipc->socket) != 0) {
            return ERR_NO_MEMORY;
        }
        context->next = ipc->idle;
        ipc->idle = context;
    }
    return ERR_OK;
}

static enum err open_resources(struct ipc *ipc)
{
    if (nng_aio_alloc(&ipc->grace, NULL, NULL) != 0 || nng_rep0_open(&ipc->socket) != 0 ||
        nng_socket_set_size(ipc->socket, NNG_OPT_RECVMAXSZ, MESSAGE_MAX) != 0) {
        return ERR_NO_MEMORY;
    }
    enum err err = open_contexts(ipc);
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

void ipc_reply(struct ipc_message *message, struct buf *lines)
{
    struct ipc_context *context = message->context;
    struct ipc *ipc = context->ipc;

    free_requests(message);
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
