#include "scheduler/ipc.h"

#include "common/clock.h"
#include "common/container.h"
#include "common/log.h"
#include "common/tls.h"
#include "proto/reply.h"
#include "scheduler/ipc_context.h"
#include "scheduler/ipc_decode.h"
#include "scheduler/ipc_pipes.h"
#include "scheduler/ipc_watch.h"

#include <nng/protocol/reqrep0/rep.h>
#include <nng/transport/tcp/tcp.h>
#include <stdlib.h>
#include <string.h>

#define CALLBACK_MAX (64u << 10) // bytes; a longer message is decoded by the worker
#define GRACE_MS 1000            // for replies on their way when we end
#define LINGER_MS 100

// ---- messages ----

static void drop_message(struct ipc_context *context)
{
    nng_msg_free(context->msg);
    context->msg = NULL;
}

// One error reply for the message as a whole.
static void refuse(struct ipc_context *context, const struct fault *fault)
{
    struct buf line;

    drop_message(context);
    buf_init(&line);
    reply_error(&line, fault->err, fault->detail);
    context_send(context, &line);
    buf_fini(&line);
}

// Sends it back as it came.
static void answer_probe(struct ipc_context *context)
{
    struct buf line;

    buf_init(&line);
    buf_put(&line, nng_msg_body(context->msg), nng_msg_len(context->msg));
    drop_message(context);
    context_send(context, &line);
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
        context_release(context);
    }
}

static void decode(struct ipc_context *context)
{
    struct ipc *ipc = context->ipc;
    const char *text = nng_msg_body(context->msg);
    size_t len = nng_msg_len(context->msg);
    size_t count = ipc_count_lines(text, len);
    struct fault fault;

    context_set_charge(context, len + count * sizeof(struct ipc_request));
    context_receive_more(ipc);
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

void ipc_received(struct ipc_context *context)
{
    struct ipc *ipc = context->ipc;
    int result = nng_aio_result(context->aio);

    pthread_mutex_lock(&ipc->lock);
    ipc->receiving--;
    pthread_mutex_unlock(&ipc->lock);
    if (result != 0) {
        context_release(context);
        return;
    }
    context->msg = nng_aio_get_msg(context->aio);
    nng_aio_set_msg(context->aio, NULL);
    context->pipe = nng_msg_get_pipe(context->msg);
    context->message.pipe = context->pipe.id;
    if (nng_msg_len(context->msg) <= CALLBACK_MAX) {
        decode(context);
    } else {
        context->work.run = decode_work;
        worker_post(ipc->worker, &context->work);
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
    ipc->idle = context_make(ipc);
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
        context_receive_more(made);
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

static int use_config(void *arg, nng_tls_config *config)
{
    const struct ipc *ipc = arg;

    return nng_listener_set_ptr(ipc->remote, NNG_OPT_TLS_CONFIG, config);
}

// Nobody watches over this one as over the socket's: there is no file that could go, and what made NNG lose a
// listener is cured.
enum err ipc_listen(struct ipc *ipc, const char *url, struct tls *tls, struct fault *fault)
{
    int result = nng_listener_create(&ipc->remote, ipc->socket, url);

    ipc->tls = tls;
    if (result == 0) {
        // A peer whose host is gone without a word is missed one day.
        result = nng_listener_set_bool(ipc->remote, NNG_OPT_TCP_KEEPALIVE, true);
    }
    if (result == 0) {
        // No reply waits for the last one's acknowledgement.
        result = nng_listener_set_bool(ipc->remote, NNG_OPT_TCP_NODELAY, true);
    }
    if (result == 0 && tls) {
        result = use_config(ipc, tls_config(tls));
    }
    if (result == 0) {
        result = nng_listener_start(ipc->remote, 0);
    }
    if (result != 0) {
        return fault_set(fault, ERR_SCHEDULER_UNAVAILABLE, "cannot listen on %s: %s", url,
                         nng_strerror(result));
    }
    return ERR_OK;
}

enum err ipc_reload(struct ipc *ipc, struct fault *fault)
{
    return tls_reload(ipc->tls, use_config, ipc, fault);
}

enum err ipc_keep(struct ipc_message *message)
{
    struct ipc_context *context = message->context;
    struct ipc *ipc = context->ipc;
    enum err err = context_make_way(ipc);

    if (err == ERR_OK) {
        err = ipc_pipes_keep(ipc->pipes, message->pipe);
    }
    if (err != ERR_OK) {
        return err;
    }
    context_keep(context);
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
    context_send(context, lines);
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
